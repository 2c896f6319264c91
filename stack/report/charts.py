"""Charts over a period, as SVG: lines, or bars on top of one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stack.report import units
from stack.report.elements import Markup, element, joined, table
from stack.report.measured import Line
from stack.report.period import Period

_WIDTH, _HEIGHT = 460, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 10, 10, 24
_PLOT_WIDTH = _WIDTH - _LEFT - _RIGHT
_PLOT_HEIGHT = _HEIGHT - _TOP - _BOTTOM


@dataclass(frozen=True)
class Chart:
    """`lines` by name, a value for each bin; `read` says in which bins there were samples at all."""

    title: str
    about: str
    lines: Mapping[str, Line]
    read: Sequence[bool]
    form: units.Format
    empty: str  # what is said where nothing is above 0
    bars: bool = False
    base: int = 10  # 2 for sizes
    lowest_top: float = 0.0  # what the axis reaches at least


def figure(chart: Chart, period: Period) -> Markup:
    """The chart with its title, its legend and its values."""
    return element(
        "figure",
        element("figcaption", element("h3", chart.title), element("p", chart.about)),
        _legend(chart),
        _picture(chart, period),
        element("details", element("summary", "Values"), _values(chart, period)),
    )


def _legend(chart: Chart) -> Markup:
    entries = [
        element("li", swatch(f"{'bar' if chart.bars else 'line'} s{place}", chart.bars), name)
        for place, name in enumerate(chart.lines)
    ]
    if not all(chart.read):
        entries.append(element("li", swatch("gap", box=True), "no samples"))
    return element("ul", *entries, class_="legend")


def swatch(kind: str, box: bool) -> Markup:
    """A box or a line of a legend."""
    if box:
        mark = element("rect", class_=kind, x=4, y=0, width=12, height=10)
    else:
        mark = element("line", class_=kind, x1=0, y1=5, x2=22, y2=5)
    return element("svg", mark, class_="swatch", viewBox="0 0 22 10", aria_hidden="true")


def _picture(chart: Chart, period: Period) -> Markup:
    tops = _tops(chart)
    highest = max([top for top in tops if top is not None], default=0.0)
    ticks = units.steps(max(highest, chart.lowest_top), base=chart.base)
    plot = _Plot(period, ticks[-1])
    parts = [_horizontal(ticks, plot, chart.form), _vertical(period, plot), _gaps(chart.read, plot)]
    if highest > 0:
        parts.append(_bars(chart, plot) if chart.bars else _lines(chart, plot))
        parts.append(_hovers(chart, plot))
        said = f"at most {chart.form(highest)}"
    else:
        said = chart.empty if any(chart.read) else "Prometheus has no samples"
        parts.append(element("text", said, class_="said", x=_LEFT + _PLOT_WIDTH / 2, y=_TOP + _PLOT_HEIGHT / 2))
    label = f"{chart.title}, {units.clock(period.begin)} to {units.clock(period.end)}: {said}"
    return element("svg", *parts, class_="chart", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label)


def _tops(chart: Chart) -> Line:
    """What each bin reaches: of bars their sum."""
    found: Line = []
    for place in range(len(chart.read)):
        known = [line[place] or 0.0 for line in chart.lines.values() if line[place] is not None]
        found.append(None if not known else sum(known) if chart.bars else max(known))
    return found


@dataclass(frozen=True)
class _Plot:
    period: Period
    top: float

    def x(self, bins: float) -> float:
        return round(_LEFT + _PLOT_WIDTH * bins / self.period.bins, 2)

    def y(self, value: float) -> float:
        return round(_TOP + _PLOT_HEIGHT * (1 - value / self.top), 2)


def _horizontal(ticks: Sequence[float], plot: _Plot, form: units.Format) -> Markup:
    parts = []
    for tick in ticks:
        y = plot.y(tick)
        parts.append(element("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
        parts.append(element("text", form(tick), class_="value", x=_LEFT - 6, y=y + 3.5))
    return joined(*parts)


def _vertical(period: Period, plot: _Plot) -> Markup:
    parts = []
    for moment in units.moments(period.begin, period.end):
        x = plot.x((moment - period.begin) / period.width)
        y = _TOP + _PLOT_HEIGHT
        parts.append(element("line", class_="grid", x1=x, x2=x, y1=y, y2=y + 4))
        where = "clock first" if x < _LEFT + 20 else "clock last" if x > _WIDTH - _RIGHT - 20 else "clock"
        parts.append(element("text", units.tick(moment, period.seconds), class_=where, x=x, y=_HEIGHT - 6))
    return joined(*parts)


def _gaps(read: Sequence[bool], plot: _Plot) -> Markup:
    parts = []
    for begin, end in _runs([not each for each in read]):
        since, until = (units.clock(plot.period.moment(place)) for place in (begin, end))
        title = element("title", f"Prometheus has no samples from {since} to {until}")
        x = plot.x(begin)
        width = round(plot.x(end) - x, 2)
        parts.append(element("rect", title, class_="gap", x=x, y=_TOP, width=width, height=_PLOT_HEIGHT))
    return joined(*parts)


def _lines(chart: Chart, plot: _Plot) -> Markup:
    parts = []
    for number, line in enumerate(chart.lines.values()):
        for begin, end in _runs([value is not None for value in line]):
            places = [(plot.x(place + 0.5), plot.y(line[place] or 0.0)) for place in range(begin, end)]
            if len(places) == 1:
                parts.append(element("circle", class_=f"dot s{number}", cx=places[0][0], cy=places[0][1], r=2.6))
            else:
                points = " ".join(f"{x},{y}" for x, y in places)
                parts.append(element("polyline", class_=f"line s{number}", points=points))
    return joined(*parts)


def _bars(chart: Chart, plot: _Plot) -> Markup:
    parts = []
    below = [0.0] * len(chart.read)
    wide = round(max(1.0, _PLOT_WIDTH / plot.period.bins - 1), 2)
    for number, line in enumerate(chart.lines.values()):
        for place, value in enumerate(line):
            if value:
                y = plot.y(below[place] + value)
                high = round(plot.y(below[place]) - y, 2)
                parts.append(element("rect", class_=f"bar s{number}", x=plot.x(place), y=y, width=wide, height=high))
                below[place] += value
    return joined(*parts)


def _hovers(chart: Chart, plot: _Plot) -> Markup:
    """What a pointer on a bin is told."""
    parts = []
    for place, read in enumerate(chart.read):
        if read:
            values = [f"{name} {_shown(line[place], chart.form)}" for name, line in chart.lines.items()]
            told = element("title", f"{units.clock(plot.period.moment(place))}: {', '.join(values)}")
            x = plot.x(place)
            wide = round(plot.x(place + 1) - x, 2)
            parts.append(element("rect", told, class_="hover", x=x, y=_TOP, width=wide, height=_PLOT_HEIGHT))
    return joined(*parts)


def _values(chart: Chart, period: Period) -> Markup:
    heads = ["from, UTC", *chart.lines]
    rows: list[list[Markup | str | None]] = [
        [
            units.clock(period.moment(place)),
            *(_shown(line[place], chart.form) if read else "no samples" for line in chart.lines.values()),
        ]
        for place, read in enumerate(chart.read)
    ]
    return table(f"{chart.title}, by {units.lasting(period.width)}", heads, rows)


def _shown(value: float | None, form: units.Format) -> str:
    return "–" if value is None else form(value)


def _runs(wanted: Sequence[bool]) -> list[tuple[int, int]]:
    """(first, one behind the last) of each run of True."""
    found: list[tuple[int, int]] = []
    for place, each in enumerate(wanted):
        if each and found and found[-1][1] == place:
            found[-1] = (found[-1][0], place + 1)
        elif each:
            found.append((place, place + 1))
    return found
