"""Each of our errors has OpenAI's form where its clients come in, and only there."""

import json

import pytest
from openai.types.shared import ErrorObject

from app.api.error_forms import error_body
from app.api.openai.errors import CODES, is_openai_path, openai_error
from app.contract.errors import (
    InvalidRequest,
    ModelLoading,
    ModelNotFound,
    Overloaded,
    PromptTooLong,
    ServingError,
    Unauthorized,
    every_error,
)
from tests.support.error_responses import response_to


@pytest.mark.parametrize(
    ("path", "openai"),
    [
        ("/", False),
        ("/livez", False),
        ("/v1x", False),
        ("/tokenizer", False),
        ("/a/v1/models", False),
        ("/v1", True),
        ("/v1/", True),
        ("/v1/chat/completions", True),
        ("/v1/\nx", True),
        ("/tokenize", True),
        ("/detokenize", True),
    ],
)
def test_the_form_follows_from_the_path(path: str, openai: bool) -> None:
    assert is_openai_path(path) is openai
    body = error_body(InvalidRequest("no", param="x"), path, "r-1")
    assert ("status" in body) is not openai
    assert ("param" in json.dumps(body)) is openai


@pytest.mark.parametrize("kind", list(every_error()))
def test_every_error_parses_as_openais(kind: type[ServingError]) -> None:
    response = response_to(kind("It says what is wrong.", param="field", retry_after=1.2), "/v1/completions")
    assert response.status_code == kind.status
    assert response.headers["retry-after"] == "2"
    assert response.headers["cache-control"] == "no-store"
    error = ErrorObject.model_validate(json.loads(bytes(response.body))["error"])
    assert (error.message, error.param, error.code) == ("It says what is wrong.", "field", CODES.get(kind, kind.code))


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (InvalidRequest("x"), "invalid_request_error", "invalid_request"),
        (ModelNotFound("x"), "invalid_request_error", "model_not_found"),
        (PromptTooLong("x"), "invalid_request_error", "context_length_exceeded"),
        (Unauthorized("x"), "authentication_error", "invalid_api_key"),
        (Overloaded("x"), "rate_limit_error", "overloaded"),
        (ModelLoading("x"), "server_error", "model_loading"),
        (ServingError(), "server_error", "internal_error"),
    ],
)
def test_openais_types_and_codes(error: ServingError, kind: str, code: str) -> None:
    said = openai_error(error)["error"]
    assert (said["type"], said["code"]) == (kind, code)


def test_a_missing_key_says_which_kind_is_wanted() -> None:
    assert response_to(Unauthorized("no"), "/v1/models").headers["www-authenticate"] == "Bearer"
