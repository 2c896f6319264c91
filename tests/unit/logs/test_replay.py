"""What is asked again, and what cannot be."""

import json
from dataclasses import replace
from typing import Any

import pytest

from app.contract.requests import GenerationRequest, JsonFormat, Message, Tool
from app.logs.line import RequestLine, parse
from app.logs.replay import body_of
from app.logs.source import LogsError
from tests.support.events import ANSWERED, REQUEST
from tests.unit.logs.conftest import Write


def line_of(write: Write, request: GenerationRequest, **changes: Any) -> RequestLine:
    *_, text = write([replace(ANSWERED, request=request, **changes)]).read_text().splitlines()
    line = parse(text)
    assert line is not None
    return line


def test_it_asks_with_the_turns_in_their_order_and_every_parameter(write: Write) -> None:
    turns = [Message("system", "Be brief."), Message("user", "one"), Message("assistant", "begun")]
    request = replace(REQUEST, messages=tuple(turns), stop=("END",), max_tokens=None)
    path, body = body_of(line_of(write, request))
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": turn.role, "content": turn.content} for turn in turns]
    assert (body["seed"], body["temperature"], body["stop"]) == (7, 0.95, ["END"])
    assert body["max_tokens"] == 512, "what it came to, not what was asked"
    json.dumps(body)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tools": (Tool("look", "", {}),)}, "tools"),
        ({"response_format": JsonFormat({})}, "form for its answer"),
        ({"messages": (Message("user", "x" * 30_000),)}, "not logged in full"),
        ({"messages": (Message("user", "x = '[masked]'"),)}, "not logged in full"),
        ({"messages": (Message("user", "go"), Message("tool", "7", tool_call_id="1"))}, "results of tools"),
        ({"messages": (), "prompt": "a", "suffix": "b"}, "a gap"),
        ({"messages": (), "prompt": "a", "prompt_logprobs": 1}, "its prompt back"),
    ],
)
def test_what_the_line_does_not_have_whole_is_refused(write: Write, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(LogsError, match=said):
        body_of(line_of(write, replace(REQUEST, **changes)))
