"""What `/tokenize` and its kin answer without a tokenizer."""

from collections.abc import Sequence

from app.contract.errors import NotFound
from app.contract.requests import GenerationRequest
from app.serving.tokenizing import Rendered


class NoTokenizer:
    """The servers that compute the answers have it. Every method raises NotFound."""

    async def of_text(self, _tenant: str, _text: str, *, leading: bool) -> tuple[int, ...]:  # noqa: ARG002  # the protocol's
        raise _not_here()

    async def of_conversation(self, _request: GenerationRequest) -> Rendered:
        raise _not_here()

    async def text(self, _tenant: str, _tokens: Sequence[int]) -> str:
        raise _not_here()

    async def names(self, _tenant: str, _tokens: Sequence[int]) -> list[str | None]:
        raise _not_here()


def _not_here() -> NotFound:
    return NotFound("This path is not served: this server's engine is remote, and the model's tokenizer is not here.")
