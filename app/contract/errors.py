"""Every error a client can get, in one tree.

    ServingError                 500 internal_error
    ├── InvalidRequest           400 invalid_request
    │   ├── UnsupportedField     400 unsupported_field
    │   ├── PromptTooLong        400 prompt_too_long
    │   ├── Unauthorized         401 unauthorized
    │   ├── NotFound             404 not_found
    │   │   └── ModelNotFound    404 model_not_found
    │   ├── MethodNotAllowed     405 method_not_allowed
    │   ├── BodyTimeout          408 body_timeout
    │   ├── BodyTooLarge         413 body_too_large
    │   └── UnsupportedMediaType 415 unsupported_media_type
    ├── Overloaded               429 overloaded
    ├── ClientClosed             499 client_closed        (logged and counted, never sent)
    ├── GenerationFailed         500 generation_failed
    │   ├── GrammarExhausted     500 grammar_exhausted    (ends an answer early, which keeps its text)
    │   ├── NoTokenLeft          500 no_token_left
    │   ├── OutOfMemory          500 out_of_memory
    │   ├── Interrupted          500 interrupted
    │   └── UpstreamFailed       500 upstream_failed      (the server that a remote engine asks)
    ├── NotReady                 503 not_ready
    │   ├── ModelLoading         503 model_loading
    │   ├── EngineStalled        503 engine_stalled
    │   ├── ShuttingDown         503 shutting_down
    │   └── UpstreamUnavailable  503 upstream_unavailable (no server that a remote engine asks can be reached)
    └── DeadlineExceeded         504 deadline_exceeded    (likewise, where there is some text)

A status of 503 says that nothing was computed: a proxy may ask another box, and does (nginx/snippets/proxy.conf).

Messages are written for clients: they name the field and the limit, and never contain a traceback, a path of the
server, or any part of a prompt.
"""

from collections.abc import Iterator
from typing import ClassVar, Self


class ServingError(Exception):
    """The root of the tree. `retry_after` is in seconds; `param` names the field at fault. Not `retryable`: the same
    request would take as long and end in the same way. `reason` is one word for what is lacking, of a few that the
    code has, for metrics."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = True
    reasons: ClassVar[tuple[str, ...]] = ()  # that its errors may have
    default_message: ClassVar[str] = "The server failed while answering. See the server log for this request id."

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after: float | None = None,
        reason: str = "",
    ) -> None:
        if reason not in ("", *self.reasons):
            raise ValueError(f"{reason!r} is no reason of {self.code}: its metric would begin at 1")
        self.message = self.default_message if message is None else message
        super().__init__(self.message)
        self.param = param
        self.retry_after = retry_after
        self.reason = reason


class InvalidRequest(ServingError):
    status = 400
    code = "invalid_request"


class UnsupportedField(InvalidRequest):
    code = "unsupported_field"


class PromptTooLong(InvalidRequest):
    """`tokens` are those of the prompt, `most` as many as it may have; None where that is not known."""

    code = "prompt_too_long"
    tokens: int | None = None
    most: int | None = None

    @classmethod
    def by_count(cls, message: str, *, param: str, tokens: int, most: int) -> Self:
        error = cls(message, param=param)
        error.tokens, error.most = tokens, most
        return error


class Unauthorized(InvalidRequest):
    status = 401
    code = "unauthorized"
    reasons = ("no_key", "unknown_key", "ended_key")


class NotFound(InvalidRequest):
    status = 404
    code = "not_found"
    default_message = "This path does not exist."


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"


class BodyTimeout(InvalidRequest):
    status = 408
    code = "body_timeout"


class BodyTooLarge(InvalidRequest):
    status = 413
    code = "body_too_large"


class UnsupportedMediaType(InvalidRequest):
    status = 415
    code = "unsupported_media_type"


class Overloaded(ServingError):
    status = 429
    code = "overloaded"
    reasons = (
        *("requests", "key_requests", "prompt_tokens", "key_prompt_tokens"),
        *("wait", "bodies", "preparing", "upstream"),
    )


class ClientClosed(ServingError):
    status = 499
    code = "client_closed"
    default_message = "The client closed the connection."


class GenerationFailed(ServingError):
    code = "generation_failed"


class GrammarExhausted(GenerationFailed):
    code = "grammar_exhausted"
    retryable = False
    default_message = (
        "The answer ends here, incomplete: its schema became too complex to follow. Bound its strings and lists, or "
        "make its patterns simpler."
    )


class NoTokenLeft(GenerationFailed):
    code = "no_token_left"
    retryable = False
    default_message = "The model gave no token that this request may use."


class OutOfMemory(GenerationFailed):
    code = "out_of_memory"


class Interrupted(GenerationFailed):
    """The server ended while it answered."""

    code = "interrupted"


class UpstreamFailed(GenerationFailed):
    code = "upstream_failed"
    default_message = "The server that computes the answers failed. See the server log for this request id."


class NotReady(ServingError):
    status = 503
    code = "not_ready"


class ModelLoading(NotReady):
    code = "model_loading"


class EngineStalled(NotReady):
    code = "engine_stalled"


class ShuttingDown(NotReady):
    code = "shutting_down"


class UpstreamUnavailable(NotReady):
    code = "upstream_unavailable"
    default_message = "No server that computes answers can be reached at the moment."


class DeadlineExceeded(ServingError):
    status = 504
    code = "deadline_exceeded"
    retryable = False
    default_message = "The request took longer than this server allows."


def every_error(root: type[ServingError] = ServingError) -> Iterator[type[ServingError]]:
    """The tree, root first."""
    yield root
    for child in root.__subclasses__():
        yield from every_error(child)
