"""One request's line of the app's log."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_MOST = 1e10  # of any figure: what is more, or no number, somebody has put there
_FIRST_YEAR = 2000  # so that what began before a line's end can be computed
STAGES = ("prepare", "grammar", "queue", "prefill", "upstream", "decode")


@dataclass(frozen=True, slots=True)
class RequestLine:
    """`fields` are as logged (docs/request-line.schema.json); a line of another version may lack some."""

    fields: dict[str, Any]
    ended: datetime

    @property
    def id(self) -> str:
        return str(self.fields.get("request_id", ""))

    @property
    def began(self) -> datetime:
        return self.ended - timedelta(seconds=self.seconds)

    @property
    def seconds(self) -> float:
        return self.number("duration_s") or 0.0

    @property
    def tenant(self) -> str:
        return str(self.fields.get("tenant") or "no key")

    @property
    def status(self) -> int:
        return int(self.number("status") or 0)

    @property
    def failed(self) -> bool:
        return self.status >= 400

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of those that it reached."""
        found = {stage: self.number(f"{stage}_s") for stage in STAGES}
        return {stage: seconds for stage, seconds in found.items() if seconds}

    def number(self, name: str) -> float | None:
        value = self.fields.get(name)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < _MOST:
            return None
        return float(value)

    @property
    def steps(self) -> range:
        """The engine's forward passes from the first to the last that computed it; empty where none did."""
        first, last = self.number("first_step"), self.number("last_step")
        return range(0) if first is None or last is None else range(int(first), int(last) + 1)

    def steps_shared(self, other: "RequestLine") -> int:
        """Forward passes within which both ran. The numbers begin anew when the engine does."""
        if self.overlap(other) <= 0:
            return 0
        mine, theirs = self.steps, other.steps
        return len(range(max(mine.start, theirs.start), min(mine.stop, theirs.stop)))

    def overlap(self, other: "RequestLine") -> float:
        """Seconds in which both ran; at most 0 when they did not."""
        return (min(self.ended, other.ended) - max(self.began, other.began)).total_seconds()


def parse(text: str) -> RequestLine | None:
    """None for every other line: of another event, cut off by a full disk, or no JSON."""
    if '"request"' not in text:
        return None
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.get("event") != "request":
            return None
        ended = datetime.fromisoformat(str(fields["timestamp"]))
        ended = ended if ended.tzinfo is not None else ended.replace(tzinfo=UTC)
        return RequestLine(fields, ended) if ended.year >= _FIRST_YEAR else None
    except (ValueError, KeyError):
        return None
