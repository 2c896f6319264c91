"""Ends an answer between two of its lines."""

import time
from collections.abc import Callable

from app.contract.requests import LineLimits

_BLANK = " \t"


class LineEnd:
    """Lets text through up to the line at which the limits end it. The line break before it comes out.

    White space at the beginning of a line is held back until the line's first character is known.
    """

    def __init__(self, limits: LineLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.reached = False
        self._limits = limits
        self._clock = clock
        self._began_at: float | None = None
        self._at_start = False  # of a line other than the first
        self._held = ""

    def push(self, piece: str, *, last: bool) -> str:
        """The text that this piece makes visible; with `last` nothing is held back."""
        if self._limits == LineLimits() or not (piece or self._held):
            return piece
        self._began_at = self._clock() if self._began_at is None else self._began_at
        text = self._cut(self._held + piece)
        self._held = ""
        if self._at_start and not last and not self.reached:
            indented = len(text) - len(text.rstrip(_BLANK))
            text, self._held = text[: len(text) - indented], text[len(text) - indented :]
        return text

    def _cut(self, text: str) -> str:
        """Up to the first line that ends the answer."""
        end, at_start = 0, self._at_start
        for line in text.splitlines(keepends=True):
            if at_start and self._indents_too_little(line):
                self.reached = True
                return text[:end]
            end += len(line)
            at_start = line.endswith("\n") or (at_start and not line.strip(_BLANK))
            if line.endswith("\n") and self._is_late():
                self.reached = True
                return text[:end]
        self._at_start = at_start
        return text

    def _indents_too_little(self, line: str) -> bool:
        rest = line.lstrip(_BLANK)
        return bool(rest.strip()) and len(line) - len(rest) < self._limits.least_indent

    def _is_late(self) -> bool:
        if self._limits.seconds is None or self._began_at is None:
            return False
        return self._clock() - self._began_at > self._limits.seconds
