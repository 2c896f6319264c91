"""What the routes need of whatever answers: the service over this process's engine, or over other servers."""

from typing import Protocol

from app.contract.engine import EngineStatus, ModelInfo
from app.contract.requests import GenerationRequest
from app.serving.admission import Limits
from app.serving.choices import Choices


class Service(Protocol):
    """Opens answers, and gives information about the model."""

    @property
    def model(self) -> ModelInfo:
        """With all its names. Raises NotReady while it is not known."""
        ...

    @property
    def context(self) -> int:
        """The most tokens of a prompt and its answer together; 0: not known."""
        ...

    def status(self) -> EngineStatus: ...

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token, which may be half a character. Raises UnsupportedField where they are not known."""
        ...

    def limits(self, tenant: str) -> Limits:
        """What may be admitted of the tenant: its share, or what its terms allow of it."""
        ...

    async def open(self, *requests: GenerationRequest) -> Choices:
        """All answers to one client's request, `n` to each prompt. They are admitted together or not at all.

        To be used as `async with await service.open(request) as choices`. Several requests differ in their prompts
        alone. Raises NotReady and its kinds, Overloaded, PromptTooLong, InvalidRequest. The
        service reports the end of the request to the observers, however it ends; nobody else does.
        """
        ...
