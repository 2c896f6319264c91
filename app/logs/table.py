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


def requests_table(lines: Iterable[RequestLine], console: Console) -> Table:
    """Times are seconds: in the queue and before, until the first token, and of the whole request."""
    table = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        justify: Literal["left", "right"] = "right" if name in _NUMBERS else "left"
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis")
    for line in lines:
        table.add_row(*row(line, console.width))
    return table


def aligned(line: RequestLine | None, width: int) -> Text:
    """A row of its own, below the headings, which are the row without a line: what comes later cannot be measured."""
    cells = list(map(Text, _COLUMNS)) if line is None else row(line, width)
    for cell, (name, columns) in zip(cells, _COLUMNS.items(), strict=True):
        cell.align("right" if name in _NUMBERS else "left", max(columns, cell.cell_len))
    return Text("  ").join(cells)


def row(line: RequestLine, width: int) -> list[Text]:
    waited = sum(line.stages.get(stage, 0.0) for stage in ("prepare", "grammar", "queue"))
    cells = [
        f"{line.ended:%m-%d %H:%M:%S}",
        printable(line.id[:_ID]),
        cut(line.tenant, 16),
        str(line.status),
        _count(line.number("prompt_tokens")),
        _count(line.number("completion_tokens")),
        seconds(waited),
        seconds(line.number("time_to_first_token_s")),
        seconds(line.seconds),
        cut(_what(line), max(20, width - 90)),
    ]
    return [Text(cell, style="red" if line.failed else "") for cell in cells]


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
