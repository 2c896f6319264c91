"""Quantiles: estimated from a histogram's buckets, and exact ones of values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

SHARES = (0.5, 0.95, 0.99)


def of_buckets(share: float, buckets: Mapping[float, float]) -> float | None:
    """As Prometheus' histogram_quantile: linear within a bucket, and the last finite bound beyond it.

    `buckets` are cumulative counts by upper bound, the last one infinite. None when there was nothing.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    wanted = share * total
    place = next((place for place, bound in enumerate(bounds) if buckets[bound] >= wanted), len(bounds) - 1)
    if math.isinf(bounds[place]):
        return bounds[place - 1] if place else None
    lower, below = (bounds[place - 1], buckets[bounds[place - 1]]) if place else (0.0, 0.0)
    inside = buckets[bounds[place]] - below
    return lower + (bounds[place] - lower) * ((wanted - below) / inside if inside else 1.0)


def of_values(share: float, values: Sequence[float]) -> float | None:
    """One of the values: the smallest that so many of them do not exceed."""
    if not values:
        return None
    return sorted(values)[math.ceil(round(len(values) * share, 9)) - 1]
