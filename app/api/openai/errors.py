"""Errors in OpenAI's form, for the paths of its API."""

import re
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from app.contract.errors import InvalidRequest, Overloaded, PromptTooLong, ServingError, Unauthorized

# nginx has the same list for its own errors (nginx/snippets/errors.conf).
_PATHS = re.compile(r"/(v1|infill|tokenize|detokenize|openapi\.json)(/.*)?", re.DOTALL)

TYPES: dict[type[ServingError], str] = {
    ServingError: "server_error",
    InvalidRequest: "invalid_request_error",
    Unauthorized: "authentication_error",
    Overloaded: "rate_limit_error",
}
"""OpenAI's `type` of an error: that of its class, or of the nearest class above it."""

CODES: dict[type[ServingError], str] = {
    PromptTooLong: "context_length_exceeded",
    Unauthorized: "invalid_api_key",
}
"""OpenAI's codes where clients use them: some shorten the conversation at the first one. All other codes are ours."""


def is_openai_path(path: str) -> bool:
    """Errors of these paths have OpenAI's form; those of all other paths have the classic one."""
    return _PATHS.fullmatch(path) is not None


class OpenAIErrorDetail(TypedDict):
    message: str
    type: str
    param: Annotated[str | None, Field(description="The field at fault, if one is.")]
    code: str


class OpenAIError(TypedDict):
    error: OpenAIErrorDetail


def openai_error(error: ServingError) -> OpenAIError:
    return {"error": error_detail(error)}


def error_detail(error: ServingError) -> OpenAIErrorDetail:
    return {
        "message": error.message,
        "type": next(TYPES[kind] for kind in type(error).__mro__ if kind in TYPES),
        "param": error.param,
        "code": CODES.get(type(error), error.code),
    }
