"""Requests, one on each line of a table."""

from collections.abc import Iterable
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.logs.line import RequestLine
from app.logs.printable import cut, printable

_ID = 12  # characters that are shown of an id: `show` takes the beginning of one
_COLUMNS = {
    "ended": 14,
    "id": _ID,
    "key": 16,
    "status": 6,
    "in": 6,
    "out": 6,
    "wait": 6,
    "first": 6,
    "all": 6,
    "what": 0,
}
"""Columns of a terminal that each takes in `aligned`; 0: the rest."""
_NUMBERS = frozenset({"in", "out", "wait", "first", "all"})


_NARROW = 110  # columns of a terminal; below it `_LESS` is left out, and of keys the beginning is shown
_LESS = frozenset({"in", "first"})


def requests_table(lines: Iterable[RequestLine], console: Console) -> Table:
    """Times are seconds: in the queue and before, until the first token, and of the whole request."""
    table = Table(box=None, pad_edge=False)
    for name, columns in _columns(console.width).items():
        justify: Literal["left", "right"] = "right" if name in _NUMBERS else "left"
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", min_width=min(columns, 6))
    for line in lines:
        table.add_row(*row(line, console.width))
    return table


def aligned(line: RequestLine | None, width: int) -> Text:
    """A row of its own, below the headings, which are the row without a line: what comes later cannot be measured."""
    columns = _columns(width)
    cells = list(map(Text, columns)) if line is None else row(line, width)
    for cell, (name, wide) in zip(cells, columns.items(), strict=True):
        cell.align("right" if name in _NUMBERS else "left", max(wide, cell.cell_len))
    return Text("  ").join(cells)


def row(line: RequestLine, width: int) -> list[Text]:
    columns = _columns(width)
    waited = sum(line.stages.get(stage, 0.0) for stage in ("prepare", "grammar", "queue"))
    rest = width - sum(columns.values()) - 2 * (len(columns) - 1)
    cells = {
        "ended": f"{line.ended:%m-%d %H:%M:%S}"[-columns["ended"] :],
        "id": printable(line.id[:_ID]),
        "key": cut(line.tenant, columns["key"]),
        "status": str(line.status),
        "in": _count(line.number("prompt_tokens")),
        "out": _count(line.number("completion_tokens")),
        "wait": seconds(waited),
        "first": seconds(line.number("time_to_first_token_s")),
        "all": seconds(line.seconds),
        "what": cut(_what(line), max(8, rest)),
    }
    return [Text(cells[name], style="red" if line.failed else "") for name in columns]


def _columns(width: int) -> dict[str, int]:
    if width >= _NARROW:
        return _COLUMNS
    return {name: columns for name, columns in _COLUMNS.items() if name not in _LESS} | {"ended": 8, "key": 8}


def seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _what(line: RequestLine) -> str:
    """Why it failed, or else what was asked."""
    fields = line.fields
    if "error_code" in fields:
        return f"{fields['error_code']}: {fields.get('error_message', '')}"
    return str(fields.get("prompt") or fields.get("path") or "")
