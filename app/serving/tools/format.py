"""The text format of tool calls: one for all models, and one that many models are trained on.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

A model whose chat template writes calls in this format gets tools through its template, any other model through a
system prompt. See docs/decisions/0701-tools.md.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.contract.requests import Message, Tool, ToolCall

OPEN = "<tool_call>"
CLOSE = "</tool_call>"
MOST_CALLS = 16
"""In one answer. A small model that has begun to call may go on without end."""


def call_head(name: str) -> str:
    """The text between OPEN and the arguments."""
    return f'\n{{"name": {json.dumps(name)}, "arguments": '


CALL_TAIL = f"}}\n{CLOSE}"
"""The text after the arguments."""


def call_text(call: ToolCall) -> str:
    return f"{OPEN}{call_head(call.name)}{call.arguments}{CALL_TAIL}"


def arguments_of(call: ToolCall) -> dict[str, Any] | str:
    """The object that a call's arguments are, or their text where it is not plainly that of one object: when the call
    was cut, names a key twice, or has what JSON cannot write again."""
    try:
        value = json.loads(call.arguments, object_pairs_hook=_distinct)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return call.arguments
    return value if isinstance(value, dict) else call.arguments


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is there twice")
    return value


def described(tool: Tool) -> dict[str, Any]:
    """A tool in the form in which chat templates expect it."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def as_text(messages: Iterable[Message], tools: Sequence[Tool], *, parallel: bool) -> list[Message]:
    """The conversation for a template without tools: plain turns, with `tools` in the system's turn."""
    turns: list[Message] = []
    for message in messages:
        plain = _plain(message)
        after_results = message.role in ("user", "tool") and bool(turns) and turns[-1].role == "user"
        if after_results and (message.role == "tool" or turns[-1].content.endswith(_RESULT_END)):
            # Templates expect turns to alternate, so results and the user's next text are one turn.
            turns[-1] = Message("user", f"{turns[-1].content}\n{plain.content}", name=plain.name)
        else:
            turns.append(plain)
    if not tools:
        return turns
    prompt = _system_prompt(tools, parallel=parallel)
    if turns and turns[0].role == "system":
        return [replace(turns[0], content=f"{turns[0].content}\n\n{prompt}"), *turns[1:]]
    return [Message("system", prompt), *turns]


_RESULT_END = "</tool_response>"


def _plain(message: Message) -> Message:
    if message.role == "tool":
        return Message("user", f"<tool_response>\n{message.content}\n{_RESULT_END}")
    if message.tool_calls:
        calls = "\n".join(call_text(call) for call in message.tool_calls)
        # As it was written: an answer's words often end with a line break before a call.
        between = "" if message.content.endswith("\n") or not message.content else "\n"
        return Message(message.role, f"{message.content}{between}{calls}", name=message.name)
    return message


def _system_prompt(tools: Sequence[Tool], *, parallel: bool) -> str:
    functions = "\n".join(json.dumps(described(tool)["function"], ensure_ascii=False) for tool in tools)
    example = call_text(ToolCall("", "name_of_the_function", '{"parameter": "value"}'))
    several = "Several calls are several such blocks. " if parallel else "Make one call at most. "
    return (
        "You can call functions. Each of these lines describes one of them, with the JSON schema of its parameters:\n"
        f"{functions}\n\n"
        f"To call a function, end your answer with a block like this one:\n{example}\n"
        f"{several}The results come back as <tool_response> blocks. When no function helps, answer in words."
    )


def native_turn(message: Message) -> Mapping[str, Any]:
    """A turn in the form that templates with tools expect."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": arguments_of(call)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        turn["name"] = message.name
    return turn
