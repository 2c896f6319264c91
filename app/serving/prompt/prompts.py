"""From a conversation or a raw prompt to token ids that fit the model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from app.contract.engine import ModelInfo
from app.contract.errors import InvalidRequest, PromptTooLong, UnsupportedField
from app.contract.requests import GenerationRequest, Message, Tool, ToolCall
from app.contract.tokenizer_config import read_tokenizer_config
from app.serving.prompt.infill import infill_of
from app.serving.prompt.template import ChatTemplate
from app.serving.prompt.tokenizer import ModelTokenizer
from app.serving.tools.format import arguments_of


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A prompt for the engine: `len(tokens) + max_tokens` is at most the given limit."""

    tokens: tuple[int, ...]
    max_tokens: int
    leading: int  # the first tokens, which are no text of the client


class Prompts:
    """Reads the tokenizer and the chat template from a model's folder.

    Raises TokenizerUnusable when that folder's tokenizer cannot be used.
    """

    def __init__(self, folder: Path, info: ModelInfo) -> None:
        self._info = info
        config = read_tokenizer_config(folder)
        self._template = ChatTemplate(config)
        self._tokenizer = ModelTokenizer(folder)
        self._leading = config.leading_tokens(self._tokenizer.control_tokens.get)
        self._infill = infill_of(self._tokenizer.control_tokens)

    @property
    def tokenizer(self) -> Tokenizer:
        """The published tokenizer, for decoding."""
        return self._tokenizer.published

    def prepare(self, request: GenerationRequest, limit: int) -> PreparedPrompt:
        """A long prompt takes tens of milliseconds: not on the event loop. Safe under threads.

        `limit` is the most tokens of prompt and answer together. A larger `max_tokens` is reduced to what fits.
        Raises PromptTooLong, InvalidRequest.
        """
        tokens = self._tokens(request)
        field = "messages" if request.prompt is None else "prompt"
        if not tokens:
            raise InvalidRequest("The prompt is empty.", param=field)
        free = limit - len(tokens)
        least = 0 if request.max_tokens == 0 else 1
        if free < least:
            # It begins with OpenAI's words: frameworks look for them, shorten the conversation and ask again.
            needs = ": the answer needs at least one" if least else ""
            raise PromptTooLong.by_count(
                f"This model's maximum context length is {limit} tokens; the prompt has {len(tokens)} tokens, "
                f"{least - free} too many{needs}.",
                param=field,
                tokens=len(tokens),
                most=limit - least,
            )
        leading = len(self._leading) if isinstance(request.prompt, str) else 0
        return PreparedPrompt(tokens, free if request.max_tokens is None else min(request.max_tokens, free), leading)

    def conversation_tokens(self, request: GenerationRequest) -> tuple[str, tuple[int, ...]]:
        """The text that the chat template makes of a conversation, and its ids. Raises InvalidRequest."""
        rendered = self._render(request)
        return self._tokenizer.unshield(rendered), tuple(self._tokenizer.encode(rendered))

    def text_tokens(self, text: str, *, leading: bool) -> tuple[int, ...]:
        """The ids of a raw text; with `leading` after the ids that the model expects before any text."""
        return (*(self._leading if leading else ()), *self._text(text))

    def decode(self, tokens: Sequence[int]) -> str:
        """Raises InvalidRequest for ids that the model does not have."""
        if tokens and not 0 <= min(tokens) <= max(tokens) < self._info.vocabulary:
            raise InvalidRequest(
                f"tokens has an unknown token id: ids are 0 to {self._info.vocabulary - 1}.", param="tokens"
            )
        return self._tokenizer.decode(tokens)

    def names(self, tokens: Sequence[int]) -> list[str | None]:
        return self._tokenizer.names(tokens)

    def _tokens(self, request: GenerationRequest) -> tuple[int, ...]:
        if request.prompt is None:
            return self.conversation_tokens(request)[1]
        if isinstance(request.prompt, str):
            return (*self._leading, *self._raw(request.prompt, request))
        return request.prompt

    def _text(self, text: str) -> list[int]:
        """A raw text may hold the model's tokens for a gap: IDEs write the whole prompt themselves."""
        return self._tokenizer.encode(self._tokenizer.shield(text, keep=self._infill or ()))

    def _raw(self, prompt: str, request: GenerationRequest) -> list[int]:
        empty = not (request.suffix or request.context or request.begun)
        if request.suffix is None or (empty and self._infill is None):
            return self._text(prompt)
        if self._infill is None:
            raise UnsupportedField(
                "suffix is not supported: the served model cannot fill in the middle.",
                param="suffix",
            )
        shield = self._tokenizer.shield
        gap = self._infill.prompt(shield(prompt), shield(request.suffix))
        return self._tokenizer.encode(f"{shield(request.context)}{gap}{shield(request.begun)}")

    def _render(self, request: GenerationRequest) -> str:
        return self._template.render(
            [self._shielded(message) for message in request.messages],
            [self._shielded_tool(tool) for tool in request.shown_tools],
            parallel=request.parallel_tool_calls,
        )

    def _shielded(self, message: Message) -> Message:
        shield = self._tokenizer.shield
        return Message(
            message.role,
            shield(message.content),
            tuple(self._shielded_call(call) for call in message.tool_calls),
            None if message.tool_call_id is None else shield(message.tool_call_id),
            None if message.name is None else shield(message.name),
        )

    def _shielded_call(self, call: ToolCall) -> ToolCall:
        shield = self._tokenizer.shield
        arguments = arguments_of(call)
        text = shield(arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False))
        return ToolCall(shield(call.id), shield(call.name), text)

    def _shielded_tool(self, tool: Tool) -> Tool:
        shield = self._tokenizer.shield
        return replace(tool, description=shield(tool.description), parameters=self._shielded_json(tool.parameters))

    def _shielded_json(self, value: Any) -> Any:
        """Control strings written with JSON escapes too: templates see the decoded text."""
        return json.loads(self._tokenizer.shield(json.dumps(value, ensure_ascii=False)))
