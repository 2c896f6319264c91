"""Each of our errors has Anthropic's form where its clients come in, and only there."""

import json

import pytest

from app.api.anthropic.errors import is_anthropic_path
from app.api.error_forms import error_body
from app.contract.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    InvalidRequest,
    MethodNotAllowed,
    ModelLoading,
    ModelNotFound,
    OutOfMemory,
    Overloaded,
    PromptTooLong,
    ServingError,
    Unauthorized,
    every_error,
)
from tests.support.anthropic_types import read_error
from tests.support.error_responses import response_to


@pytest.mark.parametrize(
    ("path", "anthropic"),
    [
        ("/v1/messages", True),
        ("/v1/messages/", True),
        ("/v1/messages/count_tokens", True),
        ("/v1/messages/\nx", True),
        ("/v1/messagesx", False),
        ("/v1/models", False),
        ("/messages", False),
        ("/", False),
    ],
)
def test_the_form_follows_from_the_path(path: str, anthropic: bool) -> None:
    assert is_anthropic_path(path) is anthropic
    body = error_body(InvalidRequest("no", param="x"), path, "r-1")
    assert (body.get("type") == "error") is (body.get("request_id") == "r-1") is anthropic


@pytest.mark.parametrize("kind", list(every_error()))
def test_every_error_parses_as_anthropics(kind: type[ServingError]) -> None:
    response = response_to(kind("It says what is wrong.", param="field", retry_after=1.2), "/v1/messages")
    assert response.status_code == kind.status
    assert response.headers["retry-after"] == "2"
    body = json.loads(bytes(response.body))
    assert read_error(body).error.message == "It says what is wrong."
    assert (body["error"]["param"], body["error"]["code"]) == ("field", kind.code)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequest("x"), "invalid_request_error"),
        (MethodNotAllowed("x"), "invalid_request_error"),
        (PromptTooLong("x"), "invalid_request_error"),
        (Unauthorized("x"), "authentication_error"),
        (ModelNotFound("x"), "not_found_error"),
        (BodyTooLarge("x"), "request_too_large"),
        (Overloaded("x"), "rate_limit_error"),
        (ModelLoading("x"), "overloaded_error"),
        (OutOfMemory("x"), "overloaded_error"),
        (DeadlineExceeded("x"), "timeout_error"),
        (ServingError(), "api_error"),
    ],
)
def test_types_are_anthropics(error: ServingError, kind: str) -> None:
    body = json.loads(bytes(response_to(error, "/v1/messages").body))
    assert body["error"]["type"] == kind
