"""The time that a report is about, and its division into bins."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stack.protocol import StackError

HOUR = 3600.0
_MOST_BINS = 60
_SHORTEST_BIN = 15  # seconds: three of Prometheus' readings
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Period:
    """`begin` and `end` are seconds since 1970; `why` says how it was chosen."""

    begin: float
    end: float
    why: str

    @property
    def seconds(self) -> float:
        return self.end - self.begin

    @property
    def bins(self) -> int:
        return max(1, min(_MOST_BINS, int(self.seconds // _SHORTEST_BIN)))

    @property
    def width(self) -> float:
        """Seconds of a bin."""
        return self.seconds / self.bins

    def moment(self, bin_index: int) -> float:
        """When this bin begins."""
        return self.begin + bin_index * self.width

    def bin_of(self, moment: float) -> int | None:
        """None outside of the period, which has its end and not its begin."""
        if not self.begin < moment <= self.end:
            return None
        return min(self.bins - 1, int((moment - self.begin) / self.width))


def period(asked: float | None, started: float | None, now: float) -> Period:
    """`asked` seconds, or else the last hour, or since the start where that is shorter."""
    if asked is not None:
        return Period(now - asked, now, "as asked for")
    if started is not None and now - started < HOUR:
        return Period(min(started, now - _SHORTEST_BIN), now, "since the stack was started")
    return Period(now - HOUR, now, "the last hour")


def length(text: str) -> float:
    """Seconds of `90m`, `6h` or `2d`. Raises StackError."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if seconds < _SHORTEST_BIN:
        raise StackError(f"{text!r} is no period: use one such as 90m, 6h or 2d, of at least {_SHORTEST_BIN} s.")
    return float(seconds)
