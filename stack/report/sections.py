"""The page's sections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from stack.report import units
from stack.report.charts import Chart, figure, swatch
from stack.report.elements import Content, Markup, element, table
from stack.report.logged import STAGES, Logged, LoggedRequest
from stack.report.measured import Grown, Line, Measured, quantile_lines, quantile_of_all, sums
from stack.report.period import Period
from stack.report.quantiles import SHARES, of_values

_MOST_TENANTS = 20
_SLOWEST = 10
_SHOWN_ID = 12  # characters: `make requests DO="show ID"` takes the beginning of one
_NO_TRAFFIC = "No traffic"
_WAYS = {"answered": "Answered", "client left": "Client left", "refused": "Refused", "failed": "Failed"}
_TOKENS = {"prompt": "Prompt tokens", "cached": "of them cached", "completion": "Generated tokens"}
_ANSWERED = frozenset({"stop", "length", "tool_calls"})
_QUANTILES = {0.5: "median", 0.95: "95 %", 0.99: "99 %"}


def tiles(found: Measured | None, logged: Logged) -> Markup:
    """The period in a few numbers: of Prometheus, or where it is missing of the log."""
    if found is None:
        ways = Counter(_way(each.outcome, str(each.status)) for each in logged.requests)
        tokens = {kind: float(sum(used[kind] for used in logged.by_tenant().values())) for kind in _TOKENS}
        first = of_values(0.95, [each.first_token for each in logged.requests if each.first_token is not None])
    else:
        ways = Counter()
        for (outcome, status), number in sums(found.requests).items():
            ways[_way(outcome, status)] += round(number)
        tokens = {kind: sum(found.tokens.get((kind,), [])) for kind in _TOKENS}
        first = quantile_of_all(0.95, found.first_token)
    shown = {"Requests": units.count(sum(ways.values()))}
    shown |= {name: units.count(ways[way]) for way, name in _WAYS.items()}
    shown |= {name: units.count(tokens[kind]) for kind, name in _TOKENS.items()}
    shown["First token, 95 %"] = _NO_TRAFFIC if first is None else units.seconds(first)
    entries = [element("div", element("dt", name), element("dd", value)) for name, value in shown.items()]
    return element("dl", *entries, class_="tiles")


def traffic(found: Measured, period: Period) -> Markup:
    ways = {way: _zeros(period) for way in _WAYS}
    for (outcome, status), bins in found.requests.items():
        line = ways[_way(outcome, status)]
        for place, number in enumerate(bins):
            line[place] += number / period.width
    requests = Chart(
        title="Requests per second",
        about="When they ended, and how. Failed: a 5xx, whether the engine had it or not.",
        lines={name: _seen(line, found.read) for name, line in ways.items()},
        read=found.read,
        form=units.count,
        empty=_NO_TRAFFIC,
        bars=True,
    )
    kinds = {"generated": "decode", "prompt": "prefill"}
    tokens = Chart(
        title="Tokens per second",
        about="As the engine computed them. Prompt tokens that were found in the cache are not computed.",
        lines={
            name: _seen([each / period.width for each in found.step_tokens.get((kind,), _zeros(period))], found.read)
            for name, kind in kinds.items()
        },
        read=found.read,
        form=units.count,
        empty=_NO_TRAFFIC,
    )
    return _section("Traffic", _charts([requests, tokens], period))


def times(found: Measured | None, logged: Logged, period: Period) -> Markup:
    """Charts from histograms; the exact quantiles of the log below them."""
    buckets: dict[str, tuple[str, Grown]] = {}
    if found is not None:
        buckets = {
            "First token": ("From arrival, of all requests that had one.", found.first_token),
            "Duration": ("From arrival to the end, of answers.", found.duration),
            "Time between tokens": ("From each token to its next, of all answers.", found.between_tokens),
        }
    charts = [
        Chart(
            title=name,
            about=about,
            lines={_QUANTILES[share]: line for share, line in quantile_lines(grown, found.read).items()},
            read=found.read,
            form=units.seconds,
            empty=_NO_TRAFFIC,
        )
        for name, (about, grown) in buckets.items()
        if found is not None
    ]
    exact = {
        "First token": [each.first_token for each in logged.requests if each.first_token is not None],
        "Duration": [each.seconds for each in logged.answered()],
    }
    rows: list[list[Content]] = []
    for name in ("First token", "Duration", "Time between tokens"):
        if name in exact:
            rows.append([f"{name}, log", *(_time(of_values(share, exact[name])) for share in SHARES)])
        if name in buckets:
            estimated = (quantile_of_all(share, buckets[name][1]) for share in SHARES)
            rows.append([f"{name}, Prometheus", *map(_time, estimated)])
    caption = "Over the whole period: exact from the log, estimated from Prometheus' buckets"
    breaks = element("p", "Where a line breaks, there was nothing to measure.", class_="about") if charts else None
    values = table(caption, ["time", *_QUANTILES.values()], rows)
    return _section("Times", breaks, _charts(charts, period), values)


def tenants(found: Measured | None, logged: Logged) -> Markup:
    """By API key, of Prometheus, or where it is missing of the log."""
    used: dict[str, dict[str, float]] = {name: dict(each) for name, each in logged.by_tenant().items()}
    source = "the log"
    if found is not None:
        source = "Prometheus"
        used = {}
        for (key,), number in sums(found.key_requests).items():
            used.setdefault(key, {})["requests"] = number
        for (key, kind), number in sums(found.key_tokens).items():
            used.setdefault(key, {})[kind] = number
    ordered = sorted(used.items(), key=lambda item: -_tokens(item[1]))
    most = max((_tokens(each) for _, each in ordered), default=0.0)
    rows: list[list[Content]] = [
        [
            name,
            *(units.count(each.get(kind, 0.0)) for kind in ("requests", "prompt", "completion")),
            _share({"prompt": each.get("prompt", 0.0), "generated": each.get("completion", 0.0)}, most, units.count),
        ]
        for name, each in ordered[:_MOST_TENANTS]
    ]
    if not rows:
        return _section("Tokens by tenant", element("p", f"{_NO_TRAFFIC}."))
    if len(ordered) > _MOST_TENANTS:
        rest = [each for _, each in ordered[_MOST_TENANTS:]]
        totals = (sum(each.get(kind, 0.0) for each in rest) for kind in ("requests", "prompt", "completion"))
        rows.append([f"and {len(rest)} more", *map(units.count, totals), None])
    heads = ["API key", "requests", "prompt tokens", "generated tokens", "compared"]
    caption = f"Of ended requests that have a tenant, from {source}"
    legend = _legend(("prompt", "generated"))
    return _section("Tokens by tenant", legend, table(caption, heads, rows, words=(0, 4)))


def memory(found: Measured, period: Period) -> Markup:
    charts = [
        Chart(
            title=f"Memory of {device}",
            about=f"The most in each {units.lasting(period.width)}."
            + (f" At its fullest {found.fullest[device]:.0%}." if device in found.fullest else ""),
            lines={
                "used, by whomever": found.used[device],
                "reserved": found.reserved.get(device, [None] * period.bins),
                "allocated": found.allocated.get(device, [None] * period.bins),
                "the device's": found.total[device],
            },
            read=found.read,
            form=units.size,
            empty="No samples",
            base=2,
        )
        for device in sorted(found.total)
        if device != "cpu"
    ]
    levels = {"Memory of the app's process": ("Resident", {"resident": found.process})}
    if "cpu" in found.total:
        fullest = f"; {found.fullest['cpu']:.0%} of it at its fullest" if "cpu" in found.fullest else ""
        both = {"used, by whomever": found.used["cpu"], "the machine's": found.total["cpu"]}
        levels["Memory of the machine"] = (f"Where the model is computed{fullest}", both)
    charts += [
        Chart(
            title=title,
            about=f"{about}; the most in each {units.lasting(period.width)}.",
            lines=lines,
            read=found.read,
            form=units.size,
            empty="No samples",
            base=2,
        )
        for title, (about, lines) in levels.items()
    ]
    return _section("Memory", _charts(charts, period))


def problems(found: Measured | None, logged: Logged, period: Period) -> Markup:
    """What was not answered and why, and preemptions."""
    kinds = logged.without_answer()
    most = max((len(requests) for requests in kinds.values()), default=0)
    rows: list[list[Content]] = [
        [
            f"{code or outcome}{f' ({reason})' if reason else ''}",
            outcome,
            str(status),
            element("code", requests[-1].id[:_SHOWN_ID]),
            units.count(len(requests)),
            _share({"requests": float(len(requests))}, float(most), units.count, first=3),
        ]
        for (outcome, status, code, reason), requests in kinds.items()
    ]
    heads = ["code", "how it ended", "status", "the last one", "requests", "compared"]
    parts: list[Content] = [
        table("Requests without an answer, from the log", heads, rows, words=(0, 1, 2, 3, 5))
        if rows
        else element("p", "The log has no refusal, no failure and no client that left.")
    ]
    if found is not None:
        parts.append(_counted(found))
        preemptions = Chart(
            title="Preemptions",
            about=f"Running requests that gave up their memory, in each {units.lasting(period.width)}.",
            lines={cause: _seen(bins, found.read) for (cause,), bins in sorted(found.preemptions.items())},
            read=found.read,
            form=units.count,
            empty="No preemptions",
            bars=True,
            lowest_top=4,
        )
        parts.append(_charts([preemptions], period))
    return _section("Errors, refusals and preemptions", *parts)


def slowest(logged: Logged) -> Markup:
    found = logged.slowest(_SLOWEST)
    if not found:
        return _section("Slowest requests", element("p", f"{_NO_TRAFFIC}."))
    most = found[0].seconds
    rows: list[list[Content]] = [
        [
            element("code", request.id[:_SHOWN_ID]),
            units.clock(request.ended),
            request.tenant,
            element("code", request.path),
            str(request.status),
            _time(request.first_token),
            units.seconds(request.seconds),
            _share({stage: request.stages.get(stage, 0.0) for stage in STAGES}, most, units.seconds),
        ]
        for request in found
    ]
    heads = ["id", "ended, UTC", "tenant", "route", "status", "first token", "duration", "stages"]
    stages: list[list[Content]] = [
        [element("code", request.id[:_SHOWN_ID]), *(_stage(request, stage) for stage in STAGES)] for request in found
    ]
    return _section(
        "Slowest requests",
        _legend(STAGES),
        table(f"The {len(found)} that took longest, from the log", heads, rows, words=(0, 1, 2, 3, 7)),
        element("details", element("summary", "Stages"), table("Time in each stage", ["id", *STAGES], stages)),
    )


def _counted(found: Measured) -> Markup:
    ended = sums(found.requests)
    rows: list[list[Content]] = [
        [f"{outcome}, status {status}", units.count(number)]
        for (outcome, status), number in sorted(ended.items(), key=lambda item: -item[1])
        if outcome not in _ANSWERED
    ]
    rows += [
        [f"refused as {code}{f' ({reason})' if reason else ''}", units.count(number)]
        for (code, reason), number in sorted(sums(found.refusals).items(), key=lambda item: -item[1])
    ]
    if not rows:
        return element("p", "Prometheus counted no refusal, no failure and no client that left.")
    counted = table("The same, as Prometheus counted it", ["how it ended", "requests"], rows)
    return element("details", element("summary", "Prometheus' counters"), counted)


def _way(outcome: str, status: str) -> str:
    if outcome in _ANSWERED:
        return "answered"
    if status.startswith("5"):
        return "failed"
    return "client left" if status == "499" else "refused"


def _share(parts: Mapping[str, float], most: float, form: units.Format, first: int = 0) -> Markup | str:
    """A bar of these parts, as long as their sum is of `most`; no bar where there is nothing."""
    at = 0.0
    bars = []
    for number, (name, value) in enumerate(parts.items(), start=first):
        wide = 100 * value / most if most else 0.0
        if wide:
            title = element("title", f"{name} {form(value)}")
            bars.append(
                element("rect", title, class_=f"bar s{number}", x=f"{at:.2f}", width=f"{wide:.2f}", height=12)
            )
            at += wide
    said = ", ".join(f"{name} {form(value)}" for name, value in parts.items() if value)
    if not said:
        return "–"
    return element(
        "svg", *bars, class_="share", viewBox="0 0 100 12", preserveAspectRatio="none", role="img", aria_label=said
    )


def _legend(names: Sequence[str]) -> Markup:
    entries = [element("li", swatch(f"bar s{place}", box=True), name) for place, name in enumerate(names)]
    return element("ul", *entries, class_="legend")


def _section(title: str, *content: Content) -> Markup:
    return element("section", element("h2", title), *content)


def _charts(charts: Iterable[Chart], period: Period) -> Markup | None:
    drawn = [figure(chart, period) for chart in charts]
    return element("div", *drawn, class_="charts") if drawn else None


def _seen(bins: Iterable[float], read: Iterable[bool]) -> Line:
    """None where Prometheus had no samples, unless something was counted there."""
    return [each if seen or each else None for each, seen in zip(bins, read)]


def _zeros(period: Period) -> list[float]:
    return [0.0] * period.bins


def _tokens(used: Mapping[str, float]) -> float:
    return used.get("prompt", 0.0) + used.get("completion", 0.0)


def _stage(request: LoggedRequest, stage: str) -> str:
    return units.seconds(request.stages[stage]) if stage in request.stages else "–"


def _time(value: float | None) -> str:
    return "–" if value is None else units.seconds(value)
