"""From texts to token ids and back, for the routes that do only this."""

from collections.abc import Sequence

from app.contract.requests import GenerationRequest
from app.serving.prompt.prompts import Prompts
from app.serving.tokenizing import Rendered
from app.work_pool import WorkPool

_THREADS = 2  # beside those for the prompts of answers


class Tokenization:
    """Works on threads of its own, which tenants share. Each method raises Overloaded when too many of the tenant's
    requests wait."""

    def __init__(self, prompts: Prompts) -> None:
        self._prompts = prompts
        self._work = WorkPool("tokenization", threads=_THREADS)

    async def of_text(self, tenant: str, text: str, *, leading: bool) -> tuple[int, ...]:
        """The ids of a raw text; with `leading` after the ids that the model expects before any text."""
        return await self._work.run(tenant, self._prompts.text_tokens, text, leading=leading)

    async def of_conversation(self, request: GenerationRequest) -> Rendered:
        """Raises InvalidRequest when the chat template refuses the conversation."""
        return Rendered(*await self._work.run(request.tenant, self._prompts.conversation_tokens, request))

    async def text(self, tenant: str, tokens: Sequence[int]) -> str:
        """Raises InvalidRequest for ids that the model does not have."""
        return await self._work.run(tenant, self._prompts.decode, tokens)

    async def names(self, tenant: str, tokens: Sequence[int]) -> list[str | None]:
        """The names in the vocabulary, where `Ġ` or `▁` is a space. None for an unused id."""
        return await self._work.run(tenant, self._prompts.names, tokens)
