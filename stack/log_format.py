"""Log lines for people: one line each, the same fields in the same places, whatever service wrote them."""

from __future__ import annotations

import json
import re
from typing import Any

from stack.terminal import cells, cut, escaped, rows

_COLOURS = {"app": 36, "nginx": 35, "prometheus": 33, "grafana": 32}
_LEVEL_COLOURS = {"warning": 33, "warn": 33, "error": 31, "critical": 31}
_PLACED = frozenset({"timestamp", "time", "level", "event", "service", "logger", "exception"})
_CLOCK = re.compile(r"\d\d:\d\d:\d\d")
_LOGFMT = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_FIRST = ("status", "error_code", "request_id", "duration_s")
_MARGIN = f"{'':9}| "
_NARROWEST = 8  # columns of a row's text on a terminal that is too narrow for it
FIELD_LIMIT = 120  # characters of one field; `STATE_DIR/logs` has the whole


def readable(service: str, line: str, *, colour: bool, width: int | None = None) -> str:
    """`12:00:00 app     info  request  status=200 …`; a line that is not structured follows its service as it is.

    With a `width`, in columns, each row fits it: messages and exceptions go on in further rows, and fields are cut.
    All rows but the first are indented, so nothing that was logged can look like a line of its own.
    """
    fields = _structured(line)
    painted = _paint(f"{service:14}", _COLOURS.get(service), colour)
    if fields is None:
        return _below(f"{'':8} {painted} ", _rows(escaped(line), width, 24), 24)
    level = escaped(str(fields.get("level", "info")))[:8]
    clock = _CLOCK.search(str(fields.get("timestamp") or fields.get("time") or fields.get("ts") or ""))
    start = f"{clock[0] if clock else '':8} {painted} {_paint(f'{level:8}', _LEVEL_COLOURS.get(level), colour)} "
    said = _rows(escaped(str(fields.get("event") or fields.get("msg") or "")), width, 33)
    rest = escaped(" ".join(f"{name}={_short(fields[name])}" for name in _order(fields)))
    if width is not None:
        rest = cut(rest, width - 33 - cells(said[-1]) - 1)
    shown = [_paint(row, 1, colour) for row in said]
    shown[-1] = f"{shown[-1]} {rest}".rstrip()
    return _below(start, shown, 33) + _cause(fields.get("exception"), width)


def _rows(text: str, width: int | None, indent: int) -> list[str]:
    return [text] if width is None else rows(text, max(width - indent, _NARROWEST))


def _below(start: str, shown: list[str], indent: int) -> str:
    """The first row behind `start`, and the others below it, so many columns from the left."""
    return start + f"\n{'':{indent}}".join(shown)


def _cause(exception: object, width: int | None) -> str:
    lines = str(exception).split("\n") if exception else []
    return "".join(f"\n{_MARGIN}{row}" for line in lines for row in _rows(escaped(line), width, len(_MARGIN)))


def _order(fields: dict[str, Any]) -> list[str]:
    """Those to show; first what says whether a reader wants the rest, which may be cut."""
    shown = [name for name, value in fields.items() if _shown(name, value)]
    return [name for name in _FIRST if name in shown] + [name for name in shown if name not in _FIRST]


def _structured(line: str) -> dict[str, Any] | None:
    """JSON (the app, nginx) or logfmt (Prometheus and its exporters); None for anything else."""
    if line.startswith("{"):
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return parsed if isinstance(parsed, dict) else None
    if line.startswith(("ts=", "time=", "level=")):
        return {name: value.strip('"') for name, value in _LOGFMT.findall(line)}
    return None


def _shown(name: str, value: object) -> bool:
    return name not in _PLACED and name not in ("msg", "ts", "caller", "source") and value is not None


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= FIELD_LIMIT else f"{text[:FIELD_LIMIT]}…"
    return json.dumps(text, ensure_ascii=False) if not text or re.search(r"\s", text) else text


def _paint(text: str, code: int | None, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code is not None else text
