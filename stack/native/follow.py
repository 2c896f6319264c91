"""Several log files followed at once, through rotation."""

from __future__ import annotations

import os
import selectors
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path


def follow_files(files: Mapping[str, Path], tail: int | None) -> Iterator[tuple[str, str]]:
    """(name, line) as they come, beginning with the last `tail` lines of each file (None: all of it)."""
    first = "+1" if tail is None else str(tail)
    running = []
    rest: dict[str, bytes] = {}
    with selectors.DefaultSelector() as selector:
        try:
            for name, path in files.items():
                process = subprocess.Popen(
                    ["tail", "--lines", first, "--follow=name", "--retry", str(path)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
                running.append(process)
                selector.register(process.stdout, selectors.EVENT_READ, name)  # type: ignore[arg-type]  # it is a pipe
            while selector.get_map():
                for key, _ in selector.select():
                    piece = os.read(key.fd, 65_536)
                    if not piece:  # somebody ended this tail
                        selector.unregister(key.fileobj)
                    *lines, rest[key.data] = (rest.get(key.data, b"") + piece).split(b"\n")
                    for line in lines:
                        yield key.data, line.decode(errors="replace")
        finally:
            for process in running:
                process.terminate()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
