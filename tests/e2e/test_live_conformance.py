"""Schemathesis against the running stack, through nginx: no 5xx, and every answer as the document says.

Few examples: tests/api/test_conformance.py asks many of the same code over a scripted engine.
"""

from typing import Any

import requests
import schemathesis
from schemathesis import Case

from app.api.openapi.document import openapi_document
from tests.e2e.conftest import Running
from tests.support.conformance import conforms, settings

DOCUMENT = openapi_document("smollm2-135m")
LONGEST = 2  # tokens of an answer: the real model takes its time

# One value after another, the coverage phase, is a matter of parsing, and the real model answers all that are right.
config = schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": False}}})
schema = schemathesis.openapi.from_dict(DOCUMENT, config=config)


def test_the_served_document_is_the_one_that_is_tested(stack: Running) -> None:
    response = requests.get(f"{stack.config.address}/openapi.json", timeout=30)
    assert response.json() == DOCUMENT


@schema.parametrize()
@settings(examples=60)
def test_every_operation_does_what_the_document_says(case: Case[Any], stack: Running) -> None:
    _shorten(case)
    conforms(case, stack.config.address)


def _shorten(case: Case[Any]) -> None:
    """Answers end soon. What is wrong stays wrong: only a limit that is missing or right is replaced."""
    body: Any = case.body
    if not isinstance(body, dict) or not {"messages", "prompt", "input"} & set(body):
        return
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_length"):
        if _is_right(body.get(name)):
            body[name] = LONGEST
    if case.operation.path == "/" and not body.get("max_length"):
        body["max_length"] = LONGEST
    if case.operation.path == "/v1/responses" and body.get("max_output_tokens") is None:
        body["max_output_tokens"] = LONGEST
    limits = (body.get("max_tokens"), body.get("max_completion_tokens"))
    paths = ("/v1/chat/completions", "/v1/completions", "/v1/fim/completions", "/v1/messages")
    if case.operation.path in paths and limits == (None, None):
        body["max_tokens"] = LONGEST


def _is_right(limit: object) -> bool:
    """A whole number above LONGEST, or -1, which means as many tokens as fit."""
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        return False
    return limit == -1 or (LONGEST < limit <= 1_000_000 and float(limit).is_integer())
