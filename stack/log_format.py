"""Log lines for people: one line each, the same fields in the same places, whatever service wrote them."""

from __future__ import annotations

import json
import re
from typing import Any

_COLOURS = {"app": 36, "nginx": 35, "prometheus": 33, "grafana": 32}
_LEVEL_COLOURS = {"warning": 33, "warn": 33, "error": 31, "critical": 31}
_PLACED = frozenset({"timestamp", "time", "level", "event", "service", "logger", "exception"})
_CLOCK = re.compile(r"\d\d:\d\d:\d\d")
_LOGFMT = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
FIELD_LIMIT = 120  # characters of one field; `STATE_DIR/logs` has the whole


def readable(service: str, line: str, *, colour: bool) -> str:
    """`12:00:00 app     info  request  status=200 …`; a line that is not structured follows its service as it is."""
    fields = _structured(line)
    if fields is None:
        return f"{'':8} {_paint(f'{service:14}', _COLOURS.get(service), colour)} {line}"
    level = str(fields.get("level", "info"))
    clock = _CLOCK.search(str(fields.get("timestamp") or fields.get("time") or fields.get("ts") or ""))
    event = str(fields.get("event") or fields.get("msg") or "")
    rest = " ".join(f"{name}={_short(value)}" for name, value in fields.items() if _shown(name, value))
    text = " ".join(
        [
            clock[0] if clock else " " * 8,
            _paint(f"{service:14}", _COLOURS.get(service), colour),
            _paint(f"{level:8}", _LEVEL_COLOURS.get(level), colour),
            _paint(event, 1, colour),
            rest,
        ]
    ).rstrip()
    exception = fields.get("exception")
    return f"{text}\n{exception}" if exception else text


def _structured(line: str) -> dict[str, Any] | None:
    """JSON (the app, nginx) or logfmt (Prometheus and its exporters); None for anything else."""
    if line.startswith("{"):
        try:
            parsed = json.loads(line)
        except ValueError:
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
