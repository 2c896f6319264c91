"""How much a counter grew, sample by sample.

Prometheus' own rate() and increase() do not see a series that begins above 0, and extrapolate to the borders of their
window. With little traffic, which is when people look at a report, the first refusal would be missing and three
requests would be 3.2. A report counts instead, and so its figures are whole and those of the log.
"""

from __future__ import annotations

from collections.abc import Mapping


def growth(values: Mapping[int, float], started: Mapping[int, float], begin: float) -> dict[int, float]:
    """By point, what was added since the last sample; a gap's growth is at the point that ends it.

    `started` has the start of the counter's process at each point at which it was read, and `begin` is the moment of
    the first point: a series that appears in a process that was read before, or that started since, began at 0.
    """
    found: dict[int, float] = {}
    before = None
    for point in sorted(values):
        if before is not None:
            same = started.get(before) == started.get(point) and values[point] >= values[before]
            base = values[before] if same else 0.0
        elif min(started, default=point) < point or started.get(point, -1.0) >= begin:
            base = 0.0
        else:
            base = values[point]  # it had grown to that before the period
        found[point] = values[point] - base
        before = point
    return found
