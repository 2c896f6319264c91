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
LIMITS = {
    "/": ("max_length",),
    "/v1/chat/completions": ("max_tokens", "max_completion_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/fim/completions": ("max_tokens",),
    "/infill": ("n_predict", "max_tokens"),
    "/v1/messages": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}
"""The fields that end an answer, by path."""

# One value after another, the coverage phase, is a matter of parsing, and the real model answers all that are right.
config = schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": False}}})
schema = schemathesis.openapi.from_dict(DOCUMENT, config=config)


def test_the_served_document_is_the_one_that_is_tested(stack: Running) -> None:
    response = requests.get(f"{stack.config.address}/openapi.json", timeout=30)
    assert response.json() == DOCUMENT


def test_every_operation_that_generates_is_shortened() -> None:
    """One that is not answers until its context is full, which takes longer than its client waits."""
    generate = {path for path, operation in DOCUMENT["paths"].items() if _limits(operation.get("post", {}))}
    assert generate - {"/v1/chat/completions/render", "/v1/messages/count_tokens"} == set(LIMITS)


@schema.parametrize()
@settings(examples=60)
def test_every_operation_does_what_the_document_says(case: Case[Any], stack: Running) -> None:
    _shorten(case)
    conforms(case, stack.config.address)


def _limits(operation: dict[str, Any]) -> set[str]:
    """The fields of an operation's body that end its answer."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    fields = DOCUMENT["components"]["schemas"].get(name, {}).get("properties", {})
    return set(fields) & {name for names in LIMITS.values() for name in names}


def _shorten(case: Case[Any]) -> None:
    """Answers end soon. What is wrong stays wrong: only a limit that is missing or right is replaced."""
    body: Any = case.body
    names = LIMITS.get(case.operation.path)
    if names is None or not isinstance(body, dict):
        return
    for name in names:
        if _is_right(body.get(name)):
            body[name] = LONGEST
    classic = case.operation.path == "/"  # there an empty value means the default
    if all(body.get(name) is None or (classic and not body[name]) for name in names):
        body[names[0]] = LONGEST


def _is_right(limit: object) -> bool:
    """A whole number above LONGEST, or -1, which means as many tokens as fit."""
    if isinstance(limit, bool) or not isinstance(limit, (int, float)):
        return False
    return limit == -1 or (LONGEST < limit <= 1_000_000 and float(limit).is_integer())
