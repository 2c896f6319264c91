"""The body of a chat: what clients write becomes our messages, and what is wrong is named and never quoted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.openai.bodies.chat import ChatBody
from app.contract.engine import ModelInfo, SamplingDefaults
from app.contract.errors import InvalidRequest, UnsupportedField
from app.contract.requests import GenerationRequest, JsonFormat, Message, Tool, ToolCall, ToolChoice

MODEL = ModelInfo("served", 1000, frozenset({2}), 100, SamplingDefaults())
USER = {"role": "user", "content": "hi"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "It tells.", "parameters": SCHEMA}}
TIME = {"type": "function", "function": {"name": "time"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def asked(**fields: Any) -> GenerationRequest:
    return ChatBody.parse({"messages": [USER]} | fields).generation("id", "team", MODEL)


def refusal(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as error:
        asked(**fields)
    assert "secret" not in error.value.message
    return error.value


def of(role: str, content: Any = "text", **fields: Any) -> dict[str, Any]:
    return {"role": role, "content": content} | fields


class TestMessages:
    @pytest.mark.parametrize("role", ["system", "user", "assistant"])
    def test_a_turn(self, role: Any) -> None:
        assert asked(messages=[of(role)]).messages == (Message(role, "text"),)

    def test_the_developer_is_the_system(self) -> None:
        assert asked(messages=[of("developer")]).messages == (Message("system", "text"),)

    def test_a_tools_turn(self) -> None:
        turn = of("tool", tool_call_id="call_1", name="weather")
        messages = asked(messages=[of("assistant", tool_calls=[CALL]), of("user"), turn]).messages
        assert messages[2] == Message("tool", "text", tool_call_id="call_1", name="weather")

    @pytest.mark.parametrize("earlier", [[], [USER], [of("assistant", tool_calls=[CALL | {"id": "call_2"}])]])
    def test_a_tools_turn_answers_an_earlier_call(self, earlier: list[Any]) -> None:
        later = of("assistant", tool_calls=[CALL])
        error = refusal(messages=[*earlier, of("tool", tool_call_id="call_1"), later])
        assert error.param == f"messages[{len(earlier)}].tool_call_id"
        assert "call_1" not in error.message

    @given(texts=st.lists(st.text(min_size=1), min_size=1, max_size=4))
    def test_parts_of_text_are_lines(self, texts: list[str]) -> None:
        parts = [{"type": "text", "text": text} for text in texts]
        assert asked(messages=[of("user", parts)]).messages == (Message("user", "\n".join(texts)),)

    @pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
    def test_an_assistants_turn_may_hold_calls_alone(self, content: dict[str, Any]) -> None:
        turn = {"role": "assistant", "tool_calls": [CALL]} | content
        assert asked(messages=[turn]).messages[0].tool_calls == (ToolCall("call_1", "weather", '{"city": "Oslo"}'),)

    def test_a_call_without_arguments_has_none(self) -> None:
        call = {"id": "call_1", "function": {"name": "time", "arguments": ""}}
        (turn,) = asked(messages=[of("assistant", tool_calls=[call])]).messages
        assert turn.tool_calls == (ToolCall("call_1", "time", "{}"),)

    @pytest.mark.parametrize("content", ["", None, [], [{"type": "text", "text": ""}]])
    def test_every_turn_may_be_empty(self, content: Any) -> None:
        call = of("assistant", content, tool_calls=[CALL])
        turns = [of("system", content), of("user", content), of("assistant", content), call]
        turns += [of("tool", content, tool_call_id="call_1"), {"role": "user"}]
        assert [turn.content for turn in asked(messages=turns).messages] == [""] * 6

    @pytest.mark.parametrize("role", ["system", "user", "assistant"])
    def test_a_speaker_may_have_a_name(self, role: Any) -> None:
        assert asked(messages=[of(role, name="Eve")]).messages == (Message(role, "text", name="Eve"),)

    def test_what_describes_a_past_turn_is_ignored(self) -> None:
        noise = {"annotations": [], "reasoning_content": "hm", "tool_call_id": "call_9", "id": "msg_1", "refusal": ""}
        part = {"type": "text", "text": "text", "cache_control": {"type": "ephemeral"}, "annotations": []}
        call = CALL | {"index": 0, "function": CALL["function"] | {"parsed_arguments": {"city": "Oslo"}}}  # type: ignore[operator]  # a literal of several types
        turns = [of("user", [part], **noise), of("assistant", tool_calls=[call], **noise, audio=None)]
        assert asked(messages=turns).messages == (
            Message("user", "text"),
            Message("assistant", "text", (ToolCall("call_1", "weather", '{"city": "Oslo"}'),)),
        )

    def test_a_refusal_is_what_the_assistant_said(self) -> None:
        parts = [{"type": "refusal", "refusal": "No."}]
        for turn in (of("assistant", None, refusal="No."), of("assistant", parts)):
            assert asked(messages=[turn]).messages == (Message("assistant", "No."),)

    @pytest.mark.parametrize(
        ("turn", "param", "said"),
        [
            ({"content": "secret"}, "role", "is required"),
            (of("secret"), "role", "must be 'system', 'developer', 'user', 'assistant' or 'tool'"),
            (of("user", 5), "content", "must be a string or a list of text parts"),
            (of("user", {"secret": 1}), "content", "must be a string or a list of text parts"),
            (of("user", ["secret"]), "content[0]", "must be an object"),
            (
                of("user", [{"type": "image_url", "image_url": {"url": "secret"}}]),
                "content[0].type",
                "must be 'text'",
            ),
            (of("user", [{"type": "text"}]), "content[0].text", "is required"),
            (of("user", [{"type": "text", "text": None}]), "content[0].text", "must be a string"),
            (of("user", [{"type": "refusal", "refusal": 5}]), "content[0].text", "must be a string"),
            (of("user", name=["secret"]), "name", "must be a string"),
            (of("assistant", prefix=True), "prefix", "must be false"),
            (of("user", tool_calls=[CALL]), "tool_calls", "is not supported in a turn with the role user"),
            (of("tool"), "tool_call_id", "is required in a turn with the role tool"),
            (of("tool", tool_call_id=""), "tool_call_id", "must not be empty"),
            (of("assistant", tool_calls=[CALL | {"id": ""}]), "tool_calls[0].id", "must not be empty"),
            (of("assistant", tool_calls=[CALL | {"type": "secret"}]), "tool_calls[0].type", "must be 'function'"),
        ],
    )
    def test_what_is_wrong_is_named_with_its_place(self, turn: Any, param: str, said: str) -> None:
        error = refusal(messages=[USER, turn])
        assert error.param == f"messages[1].{param}"
        assert error.message.startswith(f"messages[1].{param} {said}")

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [(text, text) for text in ('{"city": "Os', '{"a": 1, "a": 2}', "[1]", "null", "words", "{" * 40_000)]
        + [({"city": "Oslö"}, '{"city": "Oslö"}'), (None, "{}"), (" ", "{}")],
    )
    def test_a_calls_arguments_are_what_there_is_of_them(self, arguments: Any, text: str) -> None:
        call = {"id": "call_1", "function": {"name": "some.time", "arguments": arguments}}
        (turn,) = asked(messages=[of("assistant", tool_calls=[call])]).messages
        assert turn.tool_calls == (ToolCall("call_1", "some.time", text),)

    @pytest.mark.parametrize("messages", [[], None, "secret", [[]], ["secret"]])
    def test_there_are_messages(self, messages: Any) -> None:
        assert str(refusal(messages=messages).param).startswith("messages")

    @pytest.mark.parametrize("field", ["audio", "function_call"])
    def test_what_the_model_should_see_and_cannot_is_refused_by_name(self, field: str) -> None:
        with pytest.raises(UnsupportedField) as error:
            asked(messages=[of("assistant", **{field: {"secret": "x"}})])
        assert error.value.param == f"messages[0].{field}"


class TestTools:
    def test_tools(self) -> None:
        request = asked(tools=[WEATHER, TIME], parallel_tool_calls=False)
        assert request.tools == (
            Tool("weather", "It tells.", SCHEMA),
            Tool("time", "", {"type": "object", "properties": {}, "additionalProperties": False}),
        )
        assert request.tool_choice == ToolChoice("auto")
        assert not request.parallel_tool_calls
        assert asked().parallel_tool_calls

    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            ("none", ToolChoice("none")),
            ("auto", ToolChoice("auto")),
            ("required", ToolChoice("required")),
            ({"type": "function", "function": {"name": "time"}}, ToolChoice("required", "time")),
        ],
    )
    def test_the_choice(self, said: Any, meant: ToolChoice) -> None:
        assert asked(tools=[WEATHER, TIME], tool_choice=said).tool_choice == meant

    def test_the_form_of_a_name_is_told(self) -> None:
        error = refusal(tools=[{"type": "function", "function": {"name": "secret name"}}])
        assert error.message == "tools[0].function.name must match ^[a-zA-Z0-9_-]{1,128}$."

    @pytest.mark.parametrize("mode", ["none", "auto"])
    def test_without_tools_nothing_is_called(self, mode: str) -> None:
        request = asked(tool_choice=mode, tools=[])
        assert (request.tools, request.tool_choice) == ((), ToolChoice(mode))  # type: ignore[arg-type]  # a case is a str, not a Literal

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"tool_choice": "required"}, "tool_choice"),
            ({"tool_choice": {"type": "function", "function": {"name": "secret"}}, "tools": [TIME]}, "tool_choice"),
            ({"tool_choice": "secret", "tools": [TIME]}, "tool_choice"),
            ({"tool_choice": {"type": "allowed_tools"}, "tools": [TIME]}, "tool_choice"),
            (
                {"tool_choice": {"type": "function", "function": {"name": "time", "x": 1}}, "tools": [TIME]},
                "tool_choice",
            ),
            (
                {"tool_choice": {"type": "function", "function": {"name": "time"}, "x": 1}, "tools": [TIME]},
                "tool_choice",
            ),
            ({"tool_choice": 5}, "tool_choice"),
            ({"tools": [TIME, TIME]}, "tools"),
            ({"tools": [TIME] * 129}, "tools"),
            ({"tools": {}}, "tools"),
            ({"tools": [{"type": "custom"}]}, "tools[0].type"),
            ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
            ({"tools": [{"type": "function", "function": {"name": "secret name"}}]}, "tools[0].function.name"),
            ({"tools": [{"type": "function", "function": {"name": "a" * 129}}]}, "tools[0].function.name"),
            ({"tools": [{"type": "function", "function": {"name": "a\n"}}]}, "tools[0].function.name"),
            (
                {"tools": [{"type": "function", "function": {"name": "a", "parameters": "secret"}}]},
                "tools[0].function.parameters",
            ),
            ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
            ({"functions": [{}]}, "functions"),
            ({"function_call": {"name": "time"}}, "function_call"),
        ],
    )
    def test_what_is_wrong_is_named(self, fields: dict[str, Any], param: str) -> None:
        assert refusal(**fields).param == param


class TestResponseFormat:
    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            (None, None),
            ({"type": "text"}, None),
            ({"type": "json_object"}, JsonFormat()),
            ({"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}, JsonFormat(SCHEMA)),
            (
                {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": SCHEMA, "strict": True, "description": "y"},
                },
                JsonFormat(SCHEMA),
            ),
        ],
    )
    def test_formats(self, said: Any, meant: JsonFormat | None) -> None:
        assert asked(response_format=said).response_format == meant

    @pytest.mark.parametrize(
        ("said", "param"),
        [
            ("json_object", "response_format"),
            ({}, "response_format.type"),
            ({"type": "secret"}, "response_format.type"),
            ({"type": "json_schema"}, "response_format.json_schema"),
            ({"type": "json_schema", "json_schema": {"name": "x"}}, "response_format.json_schema.schema"),
            ({"type": "json_schema", "json_schema": {"schema": 5}}, "response_format.json_schema.schema"),
            ({"type": "json_object", "json_schema": {"schema": {}}}, "response_format.json_schema"),
            ({"type": "json_object", "schema": {}}, "response_format.schema"),
        ],
    )
    def test_what_is_wrong_is_named(self, said: Any, param: str) -> None:
        assert refusal(response_format=said).param == param


def test_null_is_absent_wherever_it_may_be() -> None:
    nulls = dict.fromkeys(set(ChatBody.model_fields) - {"messages"})
    assert ChatBody.parse({"messages": [USER]} | nulls) == ChatBody.parse({"messages": [USER]})
    turn = USER | dict.fromkeys(["name", "tool_calls", "tool_call_id", "refusal", "audio"])
    assert asked(messages=[turn]).messages == asked().messages


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(ChatBody.model_fields)), JSON))
def test_whatever_comes_is_taken_or_refused(fields: dict[str, Any]) -> None:
    try:
        taken = asked(**fields)
    except InvalidRequest as refused:
        named = refused.param
    else:
        named = taken.messages[0].content
    assert named
