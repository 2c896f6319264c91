"""Watches a native stack while it starts: an essential service must not end, and a sidecar may.

What a sidecar does is said and never fails a start: without Prometheus the model serves all the same.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

from stack.log_format import readable
from stack.native.programs import SERVICES, SIDECARS
from stack.native.supervisor import Supervisor
from stack.protocol import ESSENTIAL, StackError

LAST_LINES = 15
"""Of the log of a service that ended, shown to the operator."""
_ENDED = ("BACKOFF", "EXITED", "FATAL")
_ENDS = 2  # one may happen by bad luck; the second within one start is a pattern


class Watch:
    """Reads the logs from where they are now: what an earlier start said is not shown."""

    def __init__(self, control: Supervisor, logs: Path) -> None:
        self._control = control
        self._logs = {name: logs / f"{name}.log" for name in SERVICES}
        self._old = {name: path.stat().st_size for name, path in self._logs.items() if path.exists()}
        self._pids: dict[str, int] = {}
        self._starts: dict[str, set[int]] = {name: set() for name in SIDECARS}
        self._states: dict[str, str] = {}

    def look(self) -> None:
        """Raises StackError with the last words of an essential service that ended."""
        for name, info in self._control.programs().items():
            self._states[name] = info["statename"]
            if name in ESSENTIAL:
                self._refuse_an_end(name, info)
            elif name in SIDECARS:
                self._starts[name].add(info["start"])

    def settling(self) -> list[str]:
        """The sidecars of which it is not known yet whether they stay."""
        return [name for name in self._running() if self._states[name] != "RUNNING" and not self._keeps_ending(name)]

    def lost(self) -> dict[str, str]:
        """The sidecars that keep ending, with their last words."""
        return {name: self._last_words(name) for name in self._running() if self._keeps_ending(name)}

    def stays(self, name: str) -> bool:
        """Whether that sidecar runs, or may still do."""
        return name in self._states and not self._keeps_ending(name)

    def _running(self) -> list[str]:
        return [name for name in SIDECARS if name in self._states]

    def _refuse_an_end(self, name: str, info: dict[str, Any]) -> None:
        pid = info["pid"] or self._pids.get(name, 0)
        if info["statename"] in _ENDED or self._pids.setdefault(name, pid) != pid:
            # supervisor forgets the code of what ended in its first seconds, or was started again
            code = f" (code {info['exitstatus']})" if info["statename"] == "EXITED" else ""
            raise StackError(f"{name} exited{code}. The end of its log:\n{self._last_words(name)}")

    def _keeps_ending(self, name: str) -> bool:
        ends = len(self._starts[name]) - 1 + (self._states[name] in _ENDED)
        return self._states[name] == "FATAL" or ends >= _ENDS

    def _last_words(self, name: str) -> str:
        """Of this start, not of those before."""
        if not self._logs[name].exists():
            return "(none)"
        with self._logs[name].open("rb") as log:
            log.seek(self._old.get(name, 0))
            lines = [line.decode(errors="replace").rstrip("\n") for line in deque(log, LAST_LINES)]
        return "\n".join(readable(name, line, colour=False) for line in lines) or "(none)"
