"""The model's own chat template: Jinja in a sandbox, with the names that templates expect, as in transformers."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from app.contract.errors import InvalidRequest
from app.contract.requests import Message, Tool, ToolCall
from app.contract.tokenizer_config import TokenizerConfig
from app.serving.tools.format import as_text, call_text, described, native_turn


class TemplateRefusal(TemplateError):
    """The template itself called `raise_exception`."""


class ChatTemplate:
    """Renders conversations. A model without a template refuses them."""

    def __init__(self, config: TokenizerConfig) -> None:
        self._special_tokens = config.special_tokens
        self._source = config.chat_template
        self._template = None if self._source is None else _environment().from_string(self._source)
        self._writes_calls = self._template is not None and self._tells_of_calls()

    def render(self, messages: Sequence[Message], tools: Sequence[Tool] = (), *, parallel: bool = True) -> str:
        """The text up to where the model's answer begins. Raises InvalidRequest when the template refuses.

        A template that writes calls in the format of `tools/format.py` gets tools, calls and results as they are. For
        any other one they are written into plain turns. `parallel`: several calls at once are allowed.
        """
        if self._template is None:
            raise InvalidRequest(
                "The served model has no chat template. It can only continue texts: use /v1/completions.",
                param="messages",
            )
        try:
            if self._writes_calls:
                return self._render(messages, tools)
            return self._render(as_text(messages, tools, parallel=parallel))
        except TemplateRefusal as refusal:
            raise InvalidRequest(self._explain(str(refusal)), param="messages") from None
        except TemplateError as error:
            raise InvalidRequest(
                "The model's chat template cannot render these messages.", param="messages"
            ) from error

    def _render(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        if self._template is None:
            raise TemplateError("there is no template")
        return self._template.render(
            messages=[native_turn(message) for message in messages],
            tools=[described(tool) for tool in tools] or None,
            add_generation_prompt=True,
            **self._special_tokens,
        )

    def _explain(self, reason: str) -> str:
        """With the template's reason if that is a literal of the template: any other may quote the conversation."""
        if reason and reason in (self._source or ""):
            return f"The model's chat template refuses these messages: {reason[:200]}"
        return "The model's chat template refuses these messages."

    def _tells_of_calls(self) -> bool:
        """Whether the template renders a tool, a call in our format and its result."""
        call = ToolCall("call_1", "probed_function", '{"number": 1}')
        result = Message("tool", "probed result", tool_call_id=call.id)
        messages = [Message("user", "probe"), Message("assistant", "", (call,)), result]
        try:
            text = self._render(messages, [Tool(call.name, "probed description", {"type": "object"})])
        except Exception:  # noqa: BLE001  # a template without tools may fail on them in any way
            return False
        return all(part in text for part in (call_text(call), result.content, "probed description"))


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: datetime.now().astimezone().strftime(pattern)
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateRefusal(message)
