"""Every error as a response of the document: those of the app, and nginx's own."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from app.api.anthropic.errors import AnthropicError, anthropic_error
from app.api.classic.responses import ClassicError
from app.api.openai.errors import OpenAIError, openai_error
from app.api.openapi.components import ref
from app.contract.errors import ClientClosed, ServingError, every_error


class ErrorForm(StrEnum):
    CLASSIC = "Classic"
    OPENAI = "OpenAI"
    ANTHROPIC = "Anthropic"


_BODIES: dict[ErrorForm, type] = {
    ErrorForm.CLASSIC: ClassicError,
    ErrorForm.OPENAI: OpenAIError,
    ErrorForm.ANTHROPIC: AnthropicError,
}

PROXY = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_timeout",
    413: "body_too_large",
    414: "invalid_request",
    429: "overloaded",
    431: "invalid_request",
    500: "internal_error",
    502: "app_unavailable",
    503: "app_unavailable",
    504: "deadline_exceeded",
}
"""The codes of nginx's own errors, by status (nginx/snippets/errors.conf)."""

_OF_BODIES = {408, 413, 415}
"""Only requests with a body can get these, from the app and from nginx."""

_UNREAD = 414
"""nginx does not read an address that is too long, so it answers in the classic form on every path."""

_WORDS = {
    400: "The request is invalid; the message says why.",
    401: "No API key, an unknown one, or one that has expired or was revoked.",
    404: "The path or the model does not exist.",
    405: "The path takes another method; `Allow` says which.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    414: "The address is too long.",
    415: "The body is not declared as JSON, or is compressed.",
    429: "The server is full; `Retry-After` says when to retry.",
    431: "The request's headers are too large.",
    500: "The server failed; see its log for the request id.",
    502: "The connection to the app was lost before it answered.",
    503: "The model is not ready, or the app does not answer; nothing was computed.",
    504: "The answer took too long.",
}


def error_responses(form: ErrorForm, *, body: bool) -> dict[str, Any]:
    """References by status, for one operation."""
    statuses = {*error_codes(form), _UNREAD} - (set() if body else _OF_BODIES)
    forms = {status: ErrorForm.CLASSIC if status == _UNREAD else form for status in sorted(statuses)}
    return {str(status): {"$ref": f"#/components/responses/{one}{status}"} for status, one in forms.items()}


def error_components() -> dict[str, Any]:
    """Each status in every form, with every code that it can have."""
    return {
        f"{form}{status}": _response(status, codes, form)
        for form in ErrorForm
        for status, codes in error_codes(form).items()
    }


def error_codes(form: ErrorForm) -> dict[int, list[str]]:
    """The codes of the app and of nginx, by status."""
    codes: dict[int, list[str]] = {}
    for kind in _sent():
        code = openai_error(kind())["error"]["code"] if form is ErrorForm.OPENAI else kind.code
        codes.setdefault(kind.status, []).append(code)
    for status, code in PROXY.items():
        if form is not ErrorForm.CLASSIC and status == _UNREAD:
            continue
        if code not in codes.setdefault(status, []):
            codes[status].append(code)
    return codes


def _sent() -> Iterator[type[ServingError]]:
    """Every error but ClientClosed, which is never sent."""
    return (kind for kind in every_error() if kind is not ClientClosed)


def _response(status: int, codes: list[str], form: ErrorForm) -> dict[str, Any]:
    headers = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
    if status in (429, 500, 502, 503, 504):
        headers["retry-after"] = {"$ref": "#/components/headers/RetryAfter"}
    if any(kind.status == status and not kind.retryable for kind in _sent()):
        headers["x-should-retry"] = {"$ref": "#/components/headers/ShouldRetry"}
    codes_schema = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    return {
        "description": _WORDS[status],
        "headers": headers,
        "content": {
            "application/json": {
                "schema": {"allOf": [ref(_BODIES[form]), codes_schema]},
                "examples": {code: {"value": _example(status, code, form)} for code in codes},
            }
        },
    }


def _example(status: int, code: str, form: ErrorForm) -> dict[str, Any]:
    if form is ErrorForm.CLASSIC:
        error = {"code": code, "message": _WORDS[status]}
        return {"status": status, "error": error, "time": "2026-01-31 12:00:00"}
    kinds = {(openai_error(kind())["error"]["code"], kind.code): kind for kind in _sent()}
    kind = next((kind for names, kind in kinds.items() if code in names), ServingError)
    refusal = kind(_WORDS[status])
    example: dict[str, Any] = (
        {**openai_error(refusal)} if form is ErrorForm.OPENAI else {**anthropic_error(refusal, "0123456789abcdef")}
    )
    return example | {"error": example["error"] | {"code": code}}
