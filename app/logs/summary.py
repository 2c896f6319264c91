"""Percentiles by hour and key."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from app.logs.line import RequestLine
from app.logs.printable import cut
from app.logs.table import seconds

Quantiles = tuple[float | None, float | None, float | None]


@dataclass(frozen=True, slots=True)
class Summary:
    """Of one hour and key. Times are seconds of answers: the median, and what 95 and 99 of 100 do not exceed."""

    hour: str
    key: str
    requests: int
    refused: int  # 4xx, without clients that left
    left: int
    failed: int  # 5xx
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue: Quantiles
    first_token: Quantiles
    duration: Quantiles

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def summaries(lines: Iterable[RequestLine]) -> list[Summary]:
    groups: defaultdict[tuple[str, str], list[RequestLine]] = defaultdict(list)
    for line in lines:
        groups[f"{line.ended:%Y-%m-%d %H}:00", line.tenant].append(line)
    return [_summary(hour, key, group) for (hour, key), group in sorted(groups.items())]


def _summary(hour: str, key: str, lines: Sequence[RequestLine]) -> Summary:
    answered = [line for line in lines if not line.failed]
    first = [line.number("time_to_first_token_s") for line in answered]
    return Summary(
        hour=hour,
        key=key,
        requests=len(lines),
        refused=sum(400 <= line.status < 499 for line in lines),
        left=sum(line.status == 499 for line in lines),
        failed=sum(line.status >= 500 for line in lines),
        prompt_tokens=_sum(lines, "prompt_tokens"),
        cached_tokens=_sum(lines, "cached_tokens"),
        completion_tokens=_sum(lines, "completion_tokens"),
        queue=_quantiles([line.stages.get("queue", 0.0) for line in answered]),
        first_token=_quantiles([each for each in first if each is not None]),
        duration=_quantiles([line.seconds for line in answered]),
    )


def _sum(lines: Sequence[RequestLine], name: str) -> int:
    return round(sum(line.number(name) or 0 for line in lines))


def _quantiles(values: Sequence[float]) -> Quantiles:
    """Each is one of the values: the smallest that so many of them do not exceed."""
    if not values:
        return (None, None, None)
    ordered = sorted(values)
    at = [-(-len(ordered) * share // 100) - 1 for share in (50, 95, 99)]
    return (ordered[at[0]], ordered[at[1]], ordered[at[2]])


def summary_table(found: Sequence[Summary]) -> Table:
    table = Table(box=None, pad_edge=False)
    numbers = ("requests", "refused", "left", "failed", "in", "cached", "out")
    times = ("queue 50/95/99", "first token 50/95/99", "duration 50/95/99")
    for name in ("hour", "key", *numbers, *times):
        table.add_column(name, justify="left" if name in {"hour", "key"} else "right", no_wrap=True)
    for each in found:
        counts = (each.requests, each.refused, each.left, each.failed)
        tokens = (each.prompt_tokens, each.cached_tokens, each.completion_tokens)
        cells = [each.hour, cut(each.key, 24), *map(str, (*counts, *tokens))]
        cells += [" / ".join(map(seconds, times)) for times in (each.queue, each.first_token, each.duration)]
        table.add_row(*(Text(cell) for cell in cells))
    return table
