"""From texts to token ids and back, for the routes that do only this."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from app.contract.messages import GenerationRequest
from app.serving.prompt.prompts import Prompts

_AT_ONCE = 2  # threads; the others are left for prompts of answers
Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text that the chat template makes of a conversation, and its ids."""

    text: str
    tokens: tuple[int, ...]


class Tokenization:
    """Works in threads, for two requests at a time; the others wait."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def of_text(self, text: str, *, leading: bool) -> tuple[int, ...]:
        """The ids of a raw text; with `leading` after the ids that the model expects before any text."""
        return await self._apart(self._prompts.text_tokens, text, leading=leading)

    async def of_conversation(self, request: GenerationRequest) -> Rendered:
        """Raises InvalidRequest when the chat template refuses the conversation."""
        return Rendered(*await self._apart(self._prompts.conversation_tokens, request))

    async def text(self, tokens: Sequence[int]) -> str:
        """Raises InvalidRequest for ids that the model does not have."""
        return await self._apart(self._prompts.decode, tokens)

    async def names(self, tokens: Sequence[int]) -> list[str | None]:
        """The names in the vocabulary, where `Ġ` or `▁` is a space. None for an unused id."""
        return await self._apart(self._prompts.names, tokens)

    async def _apart(self, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs) -> Result:
        async with self._places:
            return await asyncio.to_thread(work, *given, **named)
