"""What the routes need that only tokenize: the server's own tokenizer, or a refusal where it has none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.contract.requests import GenerationRequest


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text that the chat template makes of a conversation, and its ids."""

    text: str
    tokens: tuple[int, ...]


class Tokenizing(Protocol):
    """Each method raises Overloaded when too many of the tenant's requests wait, and NotFound without a tokenizer."""

    async def of_text(self, tenant: str, text: str, *, leading: bool) -> tuple[int, ...]:
        """The ids of a raw text; with `leading` after the ids that the model expects before any text."""
        ...

    async def of_conversation(self, request: GenerationRequest) -> Rendered:
        """Raises InvalidRequest when the chat template refuses the conversation."""
        ...

    async def text(self, tenant: str, tokens: Sequence[int]) -> str:
        """Raises InvalidRequest for ids that the model does not have."""
        ...

    async def names(self, tenant: str, tokens: Sequence[int]) -> list[str | None]:
        """The names in the vocabulary, where `Ġ` or `▁` is a space. None for an unused id."""
        ...
