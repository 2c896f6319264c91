"""Which process listens on a port, as far as /proc lets this user see."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_LISTEN = "0A"  # the state in /proc/net/tcp
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


@dataclass(frozen=True)
class Holder:
    """`pid` and `name` are None where only its owner may see them, `user` where there is no /proc at all."""

    pid: int | None = None
    name: str | None = None
    user: str | None = None

    def __str__(self) -> str:
        if self.pid is not None:
            return f"{self.name} (process {self.pid})"
        return f"a process of the user {self.user}" if self.user else "another process"


def holder(port: int) -> Holder:
    sockets = dict(_listening(port))
    for process in Path("/proc").glob("[0-9]*"):
        if any(socket in sockets for socket in _sockets(process)):
            name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
            return Holder(int(process.name), name, None)
    for uid in sockets.values():
        try:
            return Holder(user=pwd.getpwuid(uid).pw_name)
        except KeyError:
            return Holder(user=str(uid))
    return Holder()


def _listening(port: int) -> Iterator[tuple[str, int]]:
    """Socket (its inode) and owner's number of everything that listens on the port, on any address."""
    for table in _TABLES:
        if not table.is_file():
            continue
        for line in table.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9], int(fields[7])


def _sockets(process: Path) -> Iterator[str]:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:  # another user's, or it has just ended
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor)  # noqa: PTH115  # a socket is not a path
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]
