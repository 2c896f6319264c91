"""Series of the running Prometheus, read over a period through its HTTP API."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from stack.client import ask
from stack.report.period import Period

SCRAPE_SECONDS = 5  # monitoring/prometheus/prometheus.yml
_POINTS = 720  # in a period: all that Prometheus has of an hour, and fewer of a longer one
_BEFORE = 3  # points before the period: what a counter had when it began
_PATIENCE = 60  # seconds


class Silent(Exception):
    """Prometheus did not answer, or not with what it was asked for; the message says how."""


@dataclass(frozen=True)
class Series:
    """`values` are by the number of their point; a point of which Prometheus has no sample is not there."""

    labels: dict[str, str]
    values: dict[int, float]


class Prometheus:
    def __init__(self, address: str) -> None:
        self._address = address

    def value(self, query: str) -> float | None:
        """Of the one sample that it has now; None where there is none. Raises Silent."""
        result = self._result("query", {"query": query})
        value = float(result[0]["value"][1]) if result else math.nan
        return None if math.isnan(value) else value

    def series(self, selector: str, period: Period) -> list[Series]:
        """The last sample of each step, and no older one: where it has none, there is none. Raises Silent."""
        points = Points(period)
        result = self._result(
            "query_range",
            {
                "query": f"last_over_time({selector}[{points.step}s])",
                "start": f"{points.moment(0):.3f}",
                "end": f"{period.end:.3f}",
                "step": str(points.step),
            },
        )
        return [
            Series(
                each["metric"],
                {points.number(at): float(text) for at, text in each["values"] if text != "NaN"},
            )
            for each in result
        ]

    def _result(self, what: str, parameters: dict[str, str]) -> list[dict[str, Any]]:
        answer = ask(f"{self._address}/api/v1/{what}?{urlencode(parameters)}", timeout=_PATIENCE)
        if answer is None:
            raise Silent(f"Nothing answers at {self._address}")
        try:
            result: list[dict[str, Any]] = answer.body["data"]["result"]
        except (KeyError, TypeError):
            raise Silent(f"{self._address} answers {answer.status}, and no samples") from None
        return result


class Points:
    """The moments of which values are read: whole steps back from the period's end, to a little before its begin."""

    def __init__(self, period: Period) -> None:
        self.step = max(SCRAPE_SECONDS, math.ceil(period.seconds / _POINTS))
        self.count = math.ceil(period.seconds / self.step) + _BEFORE + 1
        self._begin = period.end - (self.count - 1) * self.step

    def moment(self, number: int) -> float:
        return self._begin + number * self.step

    def number(self, moment: float) -> int:
        return round((moment - self._begin) / self.step)
