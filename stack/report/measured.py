"""What Prometheus measured in a period, by bin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Optional

from stack.report.growth import growth
from stack.report.period import Period
from stack.report.prometheus import Points, Prometheus
from stack.report.quantiles import SHARES, of_buckets

Grown = dict[tuple[str, ...], list[float]]
"""By the values of some labels, what was added in each bin."""
Line = list[Optional[float]]
"""A value for each bin; None where there was none."""
_STARTED = 'process_start_time_seconds{job="app"}'


@dataclass(frozen=True)
class Measured:
    instances: tuple[str, ...]
    read: list[bool]
    """Whether Prometheus read the app, by bin."""
    requests: Grown  # by outcome, status
    refusals: Grown  # by code, reason
    tokens: Grown  # of ended requests, by kind: prompt, cached, completion
    step_tokens: Grown  # computed, by kind: prefill, decode
    key_tokens: Grown  # by key, kind
    key_requests: Grown  # by key
    preemptions: Grown  # by cause
    first_token: Grown  # by le
    duration: Grown  # of successes, by le
    between_tokens: Grown  # by le
    allocated: dict[str, Line]  # bytes by device, as the three below
    reserved: dict[str, Line]
    used: dict[str, Line]
    total: dict[str, Line]
    fullest: dict[str, float]  # share of the device's memory, by device
    process: Line  # bytes


def measured(prometheus: Prometheus, period: Period) -> Measured:
    """Raises prometheus.Silent."""
    reader = _Reader(prometheus, period)
    free = reader.levels("serving_device_memory_free_bytes", "device", min)
    total = reader.levels("serving_device_memory_total_bytes", "device")
    resident = reader.levels('process_resident_memory_bytes{job="app"}', "job")
    full = reader.levels("job_device:serving_device_memory_used:ratio", "device")
    kinds = {name: reader.grown(f"serving_{name}_tokens_total") for name in ("prompt", "cached_prompt", "completion")}
    return Measured(
        instances=reader.instances,
        read=reader.read,
        requests=reader.grown("serving_requests_total", "outcome", "status"),
        refusals=reader.grown("serving_refusals_total", "code", "reason"),
        tokens={(name.split("_")[0],): bins for name, grown in kinds.items() for bins in grown.values()},
        step_tokens=reader.grown("serving_engine_step_tokens_total", "kind"),
        key_tokens=reader.grown("serving_key_tokens_total", "key", "kind"),
        key_requests=reader.grown("serving_key_requests_total", "key"),
        preemptions=reader.grown("serving_preemptions_total", "cause"),
        first_token=reader.grown("gen_ai_server_time_to_first_token_seconds_bucket", "le"),
        duration=reader.grown('gen_ai_server_request_duration_seconds_bucket{error_type=""}', "le"),
        between_tokens=reader.grown("serving_time_between_tokens_seconds_bucket", "le"),
        allocated=reader.levels("serving_device_memory_allocated_bytes", "device"),
        reserved=reader.levels("serving_device_memory_reserved_bytes", "device"),
        used={device: _less(total[device], free.get(device, [])) for device in total},
        total=total,
        fullest={device: max(_known(line)) for device, line in full.items() if _known(line)},
        process=resident.get("app", [None] * period.bins),
    )


def quantile_lines(buckets: Grown, read: Sequence[bool]) -> dict[float, Line]:
    """A line for each of SHARES; None in a bin where nothing was observed."""
    return {
        share: [of_buckets(share, _cumulative(buckets, [place])) for place in range(len(read))] for share in SHARES
    }


def quantile_of_all(share: float, buckets: Grown) -> float | None:
    """Of the whole period."""
    return of_buckets(share, _cumulative(buckets, None))


def sums(grown: Grown) -> dict[tuple[str, ...], float]:
    """Of the whole period, by label; without those that did not grow."""
    return {labels: sum(bins) for labels, bins in grown.items() if sum(bins)}


def _cumulative(buckets: Grown, places: Sequence[int] | None) -> dict[float, float]:
    return {
        math.inf if bound == "+Inf" else float(bound): sum(
            bins if places is None else (bins[place] for place in places)
        )
        for (bound,), bins in buckets.items()
    }


def _known(line: Line) -> list[float]:
    return [value for value in line if value is not None]


def _less(line: Line, other: Line) -> Line:
    return [None if a is None or b is None else a - b for a, b in zip(line, other)]


class _Reader:
    def __init__(self, prometheus: Prometheus, period: Period) -> None:
        self._prometheus = prometheus
        self._period = period
        self._points = Points(period)
        found = prometheus.series(_STARTED, period)
        self._started = {each.labels.get("instance", ""): each.values for each in found}
        self.instances = tuple(sorted(self._started))
        self.read = [False] * period.bins
        for values in self._started.values():
            for point in values:
                place = self._bin(point)
                if place is not None:
                    self.read[place] = True

    def grown(self, selector: str, *labels: str) -> Grown:
        """The growth of a counter's series, added up by these labels."""
        found: Grown = {}
        for each in self._prometheus.series(selector, self._period):
            bins = found.setdefault(tuple(each.labels.get(label, "") for label in labels), [0.0] * self._period.bins)
            started = self._started.get(each.labels.get("instance", ""), {})
            for point, added in growth(each.values, started, self._points.moment(0)).items():
                place = self._bin(point)
                if place is not None:
                    bins[place] += added
        return found

    def levels(self, selector: str, label: str, worst: Callable[[Iterable[float]], float] = max) -> dict[str, Line]:
        """The worst value of a gauge in each bin, by this label."""
        seen: dict[str, dict[int, list[float]]] = {}
        for each in self._prometheus.series(selector, self._period):
            bins = seen.setdefault(each.labels.get(label, ""), {})
            for point, value in each.values.items():
                place = self._bin(point)
                if place is not None:
                    bins.setdefault(place, []).append(value)
        places = range(self._period.bins)
        return {
            name: [worst(bins[place]) if place in bins else None for place in places] for name, bins in seen.items()
        }

    def _bin(self, point: int) -> int | None:
        return self._period.bin_of(self._points.moment(point))
