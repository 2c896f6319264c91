"""Whatever a model chooses of what the grammar allows, its calls fit their functions."""

import json
import logging
from typing import Any

import pytest

from app.contract.errors import GenerationFailed, InvalidRequest
from app.contract.events import ServiceEvent, TextEvent
from app.contract.requests import GenerationRequest, JsonFormat, Operation, SamplingParams, Tool, ToolCall, ToolChoice
from app.engine.grammars.compiler import Grammars
from app.serving.prompt.tokenizer import ModelTokenizer
from app.serving.tools.format import MOST_CALLS, call_text
from app.serving.tools.stream import ToolParser
from tests.support.grammars import constraint_of
from tests.support.schemas import HOSTILE
from tests.support.tools import ADD, TOOLS, WEATHER, assert_valid, calls_of
from tests.support.walking import Walker, takes


def request(**changes: Any) -> GenerationRequest:
    settings: dict[str, Any] = {"sampling": SamplingParams(seed=1), "tools": TOOLS} | changes
    return GenerationRequest(id="r", operation=Operation.CHAT, **settings)


class Trial:
    """Says texts to a grammar, and walks on from there."""

    def __init__(self, grammars: Grammars, tokenizer: ModelTokenizer, walker: Walker) -> None:
        self._grammars, self._tokenizer, self._walker = grammars, tokenizer, walker

    def takes(self, text: str, **changes: Any) -> bool:
        """Whether an answer may be just this text."""
        constraint = constraint_of(request(**changes), self._grammars)
        assert constraint is not None
        return takes(constraint, [*self._tokenizer.encode_text(text), 2])

    def walk(self, begin: str, seed: int, **changes: Any) -> tuple[list[ServiceEvent], bool]:
        constraint = constraint_of(request(**changes), self._grammars)
        assert constraint is not None
        begun = self._tokenizer.encode_text(begin)
        for token in begun:
            constraint.accept(token)
        tokens, ended = self._walker.walk(constraint, seed, longest=500)
        stream = ToolParser(())
        text = self._tokenizer.published.decode([*begun, *tokens])
        return [*stream.push(TextEvent(text)), *stream.flush()], ended


@pytest.fixture(scope="module")
def trial(grammars: Grammars, model_tokenizer: ModelTokenizer, walker: Walker) -> Trial:
    return Trial(grammars, model_tokenizer, walker)


NAMED = ToolChoice("required", "add")
MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "auto": ("Let me see.\n<tool_call>", {}),
    "required": ("", {"tool_choice": ToolChoice("required")}),
    "named": ("", {"tool_choice": NAMED}),
    "one call": ("", {"tool_choice": ToolChoice("required"), "parallel_tool_calls": False}),
    "auto, or JSON": ("<tool_call>", {"response_format": JsonFormat()}),
}


@pytest.mark.parametrize("mode", MODES)
def test_a_random_walk_calls_what_exists_with_what_fits(trial: Trial, mode: str) -> None:
    begin, changes = MODES[mode]
    finished = 0
    for seed in range(12):
        events, ended = trial.walk(begin, seed, **changes)
        calls = calls_of(events)
        if not ended:
            continue
        finished += 1
        assert_valid(calls)
        assert 1 <= len(calls) <= (1 if mode == "one call" else MOST_CALLS)
        assert mode != "named" or {call.name for call in calls} == {"add"}
    assert finished >= 4


def test_auto_is_words_or_words_and_calls(trial: Trial) -> None:
    call = call_text(ToolCall("", "add", '{"numbers": [1]}'))
    assert trial.takes("The answer is {3} <b>, and é 你好.")
    assert trial.takes(f"I add:\n{call}")
    assert trial.takes(call)
    assert trial.takes(f"{call}\n{call}")
    assert not trial.takes(f"{call}\n{call}", parallel_tool_calls=False)
    assert not trial.takes(f"{call} Done.")
    assert not trial.takes("<tool_call>whatever")
    assert not trial.takes(call.replace("add", "subtract"))
    assert not trial.takes(call.replace("[1]", "[true]"))


def test_the_choice_of_tools(trial: Trial) -> None:
    add = call_text(ToolCall("", "add", '{"numbers": [1]}'))
    weather = call_text(ToolCall("", "get_weather", '{"city": "Paris", "days": 3}'))
    required = ToolChoice("required")
    assert trial.takes(weather, tool_choice=required)
    assert not trial.takes("words", tool_choice=required)
    assert not trial.takes(f"words {weather}", tool_choice=required)
    assert trial.takes(add, tool_choice=NAMED)
    assert not trial.takes(weather, tool_choice=NAMED)
    assert trial.takes('{"a": 1}', response_format=JsonFormat())
    assert trial.takes(add, response_format=JsonFormat())
    assert not trial.takes("words", response_format=JsonFormat())


def test_none_is_free(grammars: Grammars) -> None:
    assert constraint_of(request(tool_choice=ToolChoice("none")), grammars) is None


def test_calls_end(trial: Trial) -> None:
    call = call_text(ToolCall("", "add", '{"numbers": []}'))
    assert trial.takes("\n".join([call] * MOST_CALLS))
    assert not trial.takes("\n".join([call] * (MOST_CALLS + 1)))


@pytest.mark.parametrize(
    "tool",
    [
        Tool("f", "", {"type": "object", "properties": {"held": {"not": {"const": "sesame"}}}}, strict=True),
        Tool("f", "", {"type": "object", "$ref": "https://example.com/sesame"}, strict=True),
        Tool("f", "", {"properties": {"a": {"enum": ["sesame"], "type": "integer"}}, "required": ["a"]}, strict=True),
        Tool("f", "", {"type": "array"}),
        Tool("f", "", {"properties": {"held": {"enum": ["sesame" * 30_000]}}}),
    ],
)
def test_a_function_that_cannot_be_enforced_is_refused(grammars: Grammars, tool: Tool) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        constraint_of(request(tools=(ADD, tool)), grammars)
    assert refusal.value.param == "tools"
    assert " tool f " in refusal.value.message
    assert "sesame" not in refusal.value.message


def test_a_function_has_a_plain_name(grammars: Grammars) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        constraint_of(request(tools=(Tool('f"sesame', "", {}),)), grammars)
    assert "sesame" not in refusal.value.message


def test_other_peoples_tools_are_enforced_as_far_as_possible(trial: Trial) -> None:
    tools = (
        Tool("send", "", {"type": "object", "properties": {"to": {"type": "array", "uniqueItems": True}}}),
        # The library alone finds out that nothing fits this one.
        Tool("never", "", {"properties": {"a": {"enum": ["x"], "type": "integer"}}, "required": ["a"]}),
        ADD,
    )
    for _ in range(2):  # the second turn knows what was refused
        assert trial.takes(call_text(ToolCall("", "send", '{"to": [1, 1]}')), tools=tools)
        assert not trial.takes(call_text(ToolCall("", "send", '{"to": 1}')), tools=tools)
        assert trial.takes(call_text(ToolCall("", "never", '{"a": "x"}')), tools=tools)
        assert not trial.takes(call_text(ToolCall("", "add", '{"numbers": [true]}')), tools=tools)
    strict = Tool("never", "", tools[1].parameters, strict=True)
    with pytest.raises(InvalidRequest):  # what one request may leave open does not open another's
        trial.takes("words", tools=(strict,))


def test_many_tools_are_fine_and_too_many_are_refused(trial: Trial, grammars: Grammars) -> None:
    many = tuple(Tool(f"function_{number}", "", WEATHER.parameters) for number in range(128))
    assert trial.takes(
        call_text(ToolCall("", "function_77", '{"city": "x", "days": 1}')),
        tools=many,
        tool_choice=ToolChoice("required"),
    )
    large = {"type": "object", "properties": {"x": {"enum": ["x" * 100_000]}}}
    with pytest.raises(InvalidRequest, match="all tools together"):
        constraint_of(request(tools=tuple(Tool(f"f{n}", "", large) for n in range(4))), grammars)


def ranges(count: int, *, strict: bool = False) -> tuple[Tool, ...]:
    """Each compiles, and 128 do not compile together."""
    return tuple(
        Tool(
            f"f{number}",
            "",
            {
                "type": "object",
                "properties": {
                    f"p{number}_{place}": {
                        "type": "integer",
                        "minimum": place - 123456789,
                        "maximum": 987654321 + place,
                    }
                    for place in range(12)
                },
            },
            strict=strict,
        )
        for number in range(count)
    )


def test_tools_that_are_too_complex_together_are_enforced_in_part(
    trial: Trial, grammars: Grammars, caplog: pytest.LogCaptureFixture
) -> None:
    tools = (*ranges(128)[:-1], WEATHER)
    with caplog.at_level(logging.INFO, logger="app.engine.grammars.compiler"):
        for _ in range(2):
            assert trial.takes(call_text(ToolCall("", "f1", "{}")), tools=tools)
            assert not trial.takes(call_text(ToolCall("", "get_weather", "{}")), tools=tools)
    (said,) = [record for record in caplog.records if "too complex together" in record.message]
    left_open = vars(said)["tools"]
    assert 0 < len(left_open) < 100
    assert "get_weather" not in left_open


def test_strict_tools_that_are_too_complex_together_are_refused_with_a_name(grammars: Grammars) -> None:
    with pytest.raises(InvalidRequest, match=r"strict are too complex together .* the tool f1\d\d\."):
        constraint_of(request(tools=ranges(128, strict=True)), grammars)


@pytest.mark.parametrize(
    ("field", "changes"),
    [("ignore_eos", {"ignore_eos": True}), ("min_tokens", {"sampling": SamplingParams(seed=1, min_tokens=5)})],
)
def test_an_answer_with_tools_ends_where_it_ends(grammars: Grammars, field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        constraint_of(request(**changes), grammars)
    assert refusal.value.param == field


def test_the_tools_of_these_tests_are_valid() -> None:
    assert_valid([ToolCall("1", "add", json.dumps({"numbers": [1, 2.5]}))])


@pytest.mark.timeout(30)  # unbounded, most of these take longer than anybody waits
@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_tool_costs_little(trial: Trial, schema: dict[str, Any]) -> None:
    tools = (Tool("f", "", {"type": "object", "properties": {"held": schema}}), ADD)
    outcome = "followed"
    try:
        trial.walk('<tool_call>\n{"name": "f", "arguments": {"', 1, tools=tools)
    except (InvalidRequest, GenerationFailed) as refusal:
        outcome = refusal.message
    assert "sesame" not in outcome
