"""Starts another server as a process, and ends it."""

import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from bench.errors import Failed
from bench.workers.pipe import LOGS
from stack.client import ask
from stack.config import ROOT

_END_SECONDS = 20


@contextmanager
def server(
    command: Sequence[str], probe: str, *, name: str, environment: Mapping[str, str], patience: float = 300
) -> Iterator[None]:
    """The server, once it answers 200 at the address `probe`. Raises Failed."""
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{name}.log"
    with path.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(process, probe, time.monotonic() + patience, f"{name} did not start; see {path}")
            yield
        finally:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: "subprocess.Popen[bytes]", probe: str, deadline: float, complaint: str) -> None:
    while True:
        answer = ask(probe)
        if answer is not None and answer.status == 200:
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(complaint)
        time.sleep(0.3)
