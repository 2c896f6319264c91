"""What the app's log has of the requests that ended in a period: their figures, and never their content."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stack.report.period import Period

STAGES = ("prepare", "grammar", "queue", "prefill", "decode")
NO_KEY = "no key"
_PATH = re.compile(r"/[A-Za-z0-9/._-]{0,60}\Z")
_OTHER_PATH = "another path"


@dataclass(frozen=True)
class LoggedRequest:
    """Times are seconds; `outcome` is how it finished, or refused."""

    id: str
    tenant: str
    path: str  # one of the API's: a client may write anything into another
    status: int
    outcome: str
    code: str
    reason: str
    ended: float
    seconds: float
    first_token: float | None
    stages: dict[str, float]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @property
    def failed(self) -> bool:
        return self.status >= 400


@dataclass(frozen=True)
class Logged:
    """In the order of the log; `oldest` is the moment of its first line, of whatever period."""

    requests: tuple[LoggedRequest, ...]
    oldest: float | None

    def slowest(self, count: int) -> list[LoggedRequest]:
        return sorted(self.requests, key=lambda request: -request.seconds)[:count]

    def answered(self) -> list[LoggedRequest]:
        return [request for request in self.requests if not request.failed]

    def without_answer(self) -> dict[tuple[str, int, str, str], list[LoggedRequest]]:
        """By outcome, status, code and reason, the most frequent first."""
        found: dict[tuple[str, int, str, str], list[LoggedRequest]] = {}
        for request in self.requests:
            if request.failed:
                kind = (request.outcome, request.status, request.code, request.reason)
                found.setdefault(kind, []).append(request)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))

    def by_tenant(self) -> dict[str, Counter[str]]:
        """requests, prompt, cached and completion, by tenant; those with most tokens first."""
        found: dict[str, Counter[str]] = {}
        for request in self.requests:
            used = found.setdefault(request.tenant, Counter())
            used.update(
                requests=1,
                prompt=request.prompt_tokens,
                cached=request.cached_tokens,
                completion=request.completion_tokens,
            )
        return dict(sorted(found.items(), key=lambda item: -(item[1]["prompt"] + item[1]["completion"])))


def logged(lines: Iterable[tuple[str, str]], period: Period) -> Logged:
    """From (service, line), as a stack's log_lines() gives them."""
    oldest = None
    found = []
    for service, line in lines:
        if service != "app":
            continue
        oldest = oldest or _moment(line)
        request = _request(line) if '"request"' in line else None
        if request is not None and period.begin < request.ended <= period.end:
            found.append(request)
    return Logged(tuple(found), oldest)


def _moment(line: str) -> float | None:
    """None for a line that is not structured."""
    try:
        return _seconds(json.loads(line)["timestamp"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _seconds(timestamp: object) -> float:
    """Since 1970. Raises ValueError. (Python 3.9 does not know the Z.)"""
    return datetime.fromisoformat(str(timestamp).replace("Z", "+00:00")).timestamp()


def _request(line: str) -> LoggedRequest | None:
    """None for every other line: of another event, cut off by a full disk, or no JSON."""
    try:
        fields = json.loads(line)
        if not isinstance(fields, dict) or fields.get("event") != "request":
            return None
        ended = _seconds(fields["timestamp"])
    except (ValueError, KeyError, RecursionError):
        return None
    stages = {stage: _number(fields, f"{stage}_s") or 0.0 for stage in STAGES}
    path, status = str(fields.get("path", "")), int(_number(fields, "status") or 0)
    return LoggedRequest(
        id=str(fields.get("request_id", "")),
        tenant=str(fields.get("tenant") or NO_KEY),
        path=path if _PATH.match(path) and status != 404 else _OTHER_PATH,
        status=status,
        outcome=str(fields.get("finish_reason") or "refused"),
        code=str(fields.get("error_code", "")),
        reason=str(fields.get("error_reason", "")),
        ended=ended,
        seconds=_number(fields, "duration_s") or 0.0,
        first_token=_number(fields, "time_to_first_token_s"),
        stages={stage: seconds for stage, seconds in stages.items() if seconds},
        prompt_tokens=int(_number(fields, "prompt_tokens") or 0),
        cached_tokens=int(_number(fields, "cached_tokens") or 0),
        completion_tokens=int(_number(fields, "completion_tokens") or 0),
    )


def _number(fields: dict[str, Any], name: str) -> float | None:
    value = fields.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
