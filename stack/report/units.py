"""Numbers and moments, as people read them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timezone

Format = Callable[[float], str]


def count(value: float) -> str:
    """12,345; and 0.25 with three digits."""
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def seconds(value: float) -> str:
    """With three digits, in milliseconds below a second."""
    if value == 0:
        return "0 s"
    if value < 1:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s" if value < 1000 else f"{value:,.0f} s"


def size(value: float) -> str:
    """In binary units, with three digits."""
    unit = 0
    while abs(value) >= 1024 and unit < 4:
        value /= 1024
        unit += 1
    return f"{value:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def clock(moment: float) -> str:
    return f"{_utc(moment):%H:%M:%S}"


def tick(moment: float, period: float) -> str:
    """A round time below an axis of so many seconds."""
    if period > 2 * 86_400:
        return f"{_utc(moment):%m-%d %H}h"
    return f"{_utc(moment):%H:%M}" if moment % 60 == 0 else clock(moment)


def date(moment: float) -> str:
    return f"{_utc(moment):%Y-%m-%d %H:%M:%S}"


def lasting(value: float) -> str:
    """`1 h`, `7 min 20 s`."""
    parts = []
    rest = round(value)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        if rest >= length:
            parts.append(f"{rest // length} {unit}")
            rest %= length
    return " ".join(parts[:2]) or "0 s"


def steps(highest: float, most: int = 4, base: int = 10) -> list[float]:
    """Round numbers from 0 on, evenly apart, the last at or above `highest`; base 2 is for sizes."""
    if highest <= 0:
        return [0.0, 1.0]
    nice = [1.0, 2.0, 2.5, 5.0, 10.0] if base == 10 else [2.0**exponent for exponent in range(11)]
    power = max(nice) ** math.floor(math.log(highest / most, max(nice)))
    apart = next(power * each for each in nice if power * each * most >= highest * 0.999999)
    return [apart * number for number in range(math.ceil(highest / apart - 1e-6) + 1)]


def moments(begin: float, end: float, most: int = 5) -> list[float]:
    """Round times of UTC between the two."""
    choices = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800)
    apart = next((each for each in choices if (end - begin) / each <= most), 604_800)
    first = math.ceil(begin / apart)
    return [float(number * apart) for number in range(first, math.floor(end / apart) + 1)]


def _utc(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, timezone.utc)
