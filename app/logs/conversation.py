"""One request as a readable conversation, with its stages and what ran beside it."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from app.logs.line import RequestLine
from app.logs.printable import printable
from app.logs.table import seconds

_BAR = 40
_NEIGHBOURS = 10
_SHOWN = frozenset({"prompt", "messages", "response", "choices", "exception", "event", "logger", "level"})


def conversation(line: RequestLine, others: Sequence[RequestLine]) -> Iterator[str]:
    """Its lines, safe for a terminal."""
    yield f"{printable(line.id)}  {line.status}  {line.ended:%Y-%m-%d %H:%M:%S} UTC  key {printable(line.tenant)}"
    yield ""
    for name, value in line.fields.items():
        if name not in _SHOWN and not name.endswith("_s"):
            yield f"  {name:24} {printable(value if isinstance(value, str) else json.dumps(value))}"
    yield ""
    yield from _stages(line)
    yield from _content(line)
    if "exception" in line.fields:
        yield from ("", "exception", *_indented(str(line.fields["exception"])))
    yield from _beside(line, others)


def _stages(line: RequestLine) -> Iterator[str]:
    for stage, lasted in line.stages.items():
        share = lasted / line.seconds if line.seconds else 0.0
        yield f"  {stage:8} {seconds(lasted):>9} s  {'#' * max(1, round(_BAR * share))}"
    yield f"  {'all':8} {seconds(line.seconds):>9} s"
    for name, label in (("time_to_first_token_s", "first token"), ("largest_gap_s", "largest gap")):
        if line.number(name) is not None:
            yield f"  {label}: {seconds(line.number(name))} s"


def _content(line: RequestLine) -> Iterator[str]:
    turns = messages_of(line)
    if not turns:
        yield from ("", "(no content is logged: LOG_CONTENT, or the key's)")
    for role, text in turns:
        yield from ("", role, *_indented(text))
    for number, choice in enumerate(line.fields.get("choices") or [], start=1):
        if isinstance(choice, dict) and "response" in choice:
            yield from ("", f"answer {number}, {choice.get('finish_reason')}", *_indented(str(choice["response"])))
    if "response" in line.fields:
        yield from ("", f"answer, {line.fields.get('finish_reason')}", *_indented(str(line.fields["response"])))


def messages_of(line: RequestLine) -> list[tuple[str, str]]:
    """(role, text) of each turn in its order; empty where no content is logged."""
    others: list[Any] = line.fields.get("messages") or []
    turns = [(str(turn.get("role")), str(turn.get("content"))) for turn in others if isinstance(turn, dict)]
    if "prompt" in line.fields:
        at = line.fields.get("prompt_index", len(turns))
        turns.insert(at, ("user", str(line.fields["prompt"])))
    return turns


def _beside(line: RequestLine, others: Sequence[RequestLine]) -> Iterator[str]:
    beside = [(line.overlap(other), other) for other in others if other.id != line.id]
    beside = sorted(((shared, other) for shared, other in beside if shared > 0), key=lambda pair: -pair[0])
    yield from ("", f"{len(beside)} requests ran beside it")
    for shared, other in beside[:_NEIGHBOURS]:
        tokens = f"{other.number('prompt_tokens') or 0:.0f} + {other.number('completion_tokens') or 0:.0f} tokens"
        together = f"{seconds(shared):>9} s and {line.steps_shared(other):>5} steps together"
        yield f"  {together}  {printable(other.id)}  key {printable(other.tenant)}  {tokens}"
    if len(beside) > _NEIGHBOURS:
        yield f"  and {len(beside) - _NEIGHBOURS} more"


def _indented(text: str) -> list[str]:
    return [f"  {printable(line, keep=chr(9))}" for line in text.split("\n")]
