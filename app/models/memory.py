"""The machine's memory, and how much of it this process may take: a container's limit is often smaller.

Limits are control groups': memory.max in version 2, memory.limit_in_bytes in version 1. Every group around this
process counts. A container sees its own group as the root of the file system.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
"""Lines of `number:controllers:/path`; version 2 is number 0 without controllers."""

_NAMES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""The files with a group's limit and use, in versions 2 and 1."""

_FILE_CACHE = {"inactive_file", "active_file", "total_inactive_file", "total_active_file"}
"""Lines of memory.stat: version 1 has a group's own figures too, and `total_` includes the groups in it."""


def available_memory() -> int:
    """Bytes that can be taken without swapping, within the limits of this process."""
    return min([int(psutil.virtual_memory().available), *(max(0, limit - used) for limit, used in _limits())])


def total_memory() -> int:
    """Bytes of the machine, or of the smallest limit."""
    return min([int(psutil.virtual_memory().total), *(limit for limit, _ in _limits())])


def _limits() -> Iterator[tuple[int, int]]:
    """The limit of each group around this process that has one, and what is used of it, in bytes."""
    for group in _groups():
        for limit, used in _NAMES:
            most = _number(group / limit)
            if most is not None:
                yield most, max(0, (_number(group / used) or 0) - _file_cache(group))


def _groups() -> Iterator[Path]:
    """This process's groups and those around them, as far as they can be seen from here."""
    for line in _text(MEMBERSHIP).splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        root = CGROUPS if number == "0" else CGROUPS / "memory"
        inside = Path(path.lstrip("/"))
        yield from (root / part for part in (inside, *inside.parents))


def _number(file: Path) -> int | None:
    """None for `max`, and where there is no such file."""
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None


def _file_cache(group: Path) -> int:
    """Bytes of files that the system keeps in memory, and gives up when memory is wanted."""
    lines = [line.split() for line in _text(group / "memory.stat").splitlines()]
    figures = {name: int(value) for name, value in lines if name in _FILE_CACHE}
    whole = {name: value for name, value in figures.items() if name.startswith("total_")}
    return sum((whole or figures).values())


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except OSError:
        return ""
