"""Errors in Anthropic's form, for the paths of its API."""

import re
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.contract.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    Interrupted,
    InvalidRequest,
    NotFound,
    NotReady,
    OutOfMemory,
    Overloaded,
    PromptTooLong,
    ServingError,
    Unauthorized,
)

# nginx has the same list for its own errors (nginx/snippets/errors.conf).
_PATHS = re.compile(r"/v1/messages(/.*)?", re.DOTALL)

TYPES: dict[type[ServingError], str] = {
    ServingError: "api_error",
    InvalidRequest: "invalid_request_error",
    Unauthorized: "authentication_error",
    NotFound: "not_found_error",
    BodyTooLarge: "request_too_large",
    Overloaded: "rate_limit_error",
    OutOfMemory: "overloaded_error",
    Interrupted: "overloaded_error",
    NotReady: "overloaded_error",
    DeadlineExceeded: "timeout_error",
}
"""Anthropic's `type` of an error: that of its class, or of the nearest class above it."""


def is_anthropic_path(path: str) -> bool:
    """Errors of these paths have Anthropic's form."""
    return _PATHS.fullmatch(path) is not None


class AnthropicErrorDetail(TypedDict):
    type: Annotated[str, Field(description="Anthropic's kind of error.")]
    message: str
    param: Annotated[str | None, Field(description="The field at fault, if one is.")]
    code: Annotated[str, Field(description="Our code, as in other errors.")]


class AnthropicError(TypedDict):
    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str


def anthropic_error(error: ServingError, request_id: str) -> AnthropicError:
    return {"type": "error", "error": error_detail(error), "request_id": request_id}


def error_detail(error: ServingError) -> AnthropicErrorDetail:
    return {
        "type": next(TYPES[kind] for kind in type(error).__mro__ if kind in TYPES),
        "message": _message(error),
        "param": error.param,
        "code": error.code,
    }


def _message(error: ServingError) -> str:
    """Clients find a prompt that is too long, and by how much, by Anthropic's words alone."""
    if isinstance(error, PromptTooLong) and error.tokens is not None and error.most is not None:
        return f"prompt is too long: {error.tokens} tokens > {error.most} maximum. {error.message}"
    return error.message
