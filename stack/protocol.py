"""What both ways of running the stack offer: plain processes in `native/`, containers in `containers/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

ESSENTIAL = ("app", "nginx")
"""The services without which nothing is served; without the others the start goes on and says what is missing."""


class StackError(Exception):
    """The stack cannot do what was asked. The message tells the operator why, and what to do."""


class Stack(Protocol):
    """One stack of one STATE_DIR. Every method may be called in a process of its own."""

    def up(self) -> None:
        """Start what does not run and return when everything is healthy; do nothing to a healthy stack.

        When it raises StackError, nothing that it started is left running.
        """

    def down(self) -> None:
        """Stop everything and return when nothing runs. Raises StackError when something survives."""

    def log_lines(self, follow: bool, tail: int | None = None) -> Iterator[tuple[str, str]]:
        """(service, raw line) of every service's log so far and, with `follow`, of what comes, until closed.

        `tail` bounds what is already there: that many last lines of each service.
        """

    def processes(self) -> list[str]:
        """What runs of this stack, one description each; [] after `down`."""

    def services(self) -> dict[str, str]:
        """Name → address of what an operator can open, for the closing message."""
