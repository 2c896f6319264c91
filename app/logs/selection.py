"""Which lines are wanted."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.logs.line import RequestLine

Status = Callable[[int], bool]
_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """None: any."""

    id: str | None = None  # or the beginning of one
    key: str | None = None
    path: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    status: Status | None = None
    errors: bool = False

    def of(self, lines: Iterable[RequestLine]) -> Iterator[RequestLine]:
        return (line for line in lines if self._wants(line))

    def _wants(self, line: RequestLine) -> bool:
        return (
            (self.id is None or line.id.startswith(self.id))
            and (self.key is None or line.tenant == self.key)
            and (self.path is None or line.fields.get("path") == self.path)
            and (self.since is None or line.ended >= self.since)
            and (self.until is None or line.began <= self.until)
            and (self.status is None or self.status(line.status))
            and (not self.errors or line.failed or "error_code" in line.fields)
        )


def moment(text: str, now: datetime | None = None) -> datetime:
    """`10m`, `2h` or `1d` ago, or a date and time, which is UTC unless it says otherwise. Raises ValueError."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        try:
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError:
            raise ValueError(f"{text!r} is too long ago") from None
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def status(text: str) -> Status:
    """`429`, or `4xx` for all that begin with a 4. Raises ValueError."""
    if re.fullmatch(r"[1-5]xx", text):
        return lambda code: code // 100 == int(text[0])
    if not re.fullmatch(r"[1-5]\d\d", text):
        raise ValueError(f"{text!r} is no status: use one such as 429, or 4xx")
    return lambda code: code == int(text)
