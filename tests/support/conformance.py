"""What schemathesis asks of each operation of `/openapi.json`, with the rules that no JSON schema can say."""

from collections.abc import Callable
from typing import Any

import hypothesis
from schemathesis import Case, CheckFunction
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

JOINED = {
    "min_tokens": "not above max_tokens; not with JSON or tools",
    "ignore_eos": "not with JSON or tools",
    "max_completion_tokens": "the same as max_tokens",
    "top_logprobs": "with logprobs only",
    "logprobs": "not with echo",
    "best_of": "the same as n",
    "n": "no more answers at once than there is room for",
    "suffix": "only for models that fill in the middle",
    "input_prefix": "fits the context",
    "input_suffix": "only for models that fill in the middle",
    "prompt": "fits the context; not more than 64 answers; ids of the vocabulary",
    "tokens": "ids of the vocabulary",
    "logit_bias": "ids of the vocabulary, each once",
    "messages": "each role has its own fields; fits the context",
    "tools": "different names; a schema of supported keywords",
    "tool_choice": "one of the tools",
    "response_format": "a schema of supported keywords",
    "input": "as messages",
    "system": "fits the context",
    "output_config": "a schema of supported keywords",
    "instructions": "fits the context",
    "text": "a schema of supported keywords",
    "history": "fits the context",
}
"""Fields that a request can be refused for although each of them is right by itself, and why."""


def settings(examples: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same examples at every run."""
    return hypothesis.settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def conforms(case: Case[Any], address: str) -> None:
    """Sends the case, and fails when the answer is not as the document says.

    What breaks the schema has to be refused; what keeps it has to be accepted, but for the joined rules.
    """
    response = case.call(base_url=address)
    excluded: list[CheckFunction] = []
    if response.status_code == 400 and _no_schema_says(response.json()):
        excluded = [positive_data_acceptance]
    if response.status_code == 413:
        excluded = [negative_data_rejection]  # too many items of too many items are first of all too many bytes
    case.validate_response(response, excluded_checks=excluded, transport_kwargs={"base_url": address})


def _no_schema_says(refusal: dict[str, Any]) -> bool:
    """Whether a request can keep the schema and be refused like this."""
    error = refusal["error"]
    if error["code"] == "prompt_too_long":
        return True  # no schema counts tokens; the classic form names no field
    field = error.get("param") or error["message"].split()[0]
    return field.partition("[")[0].partition(".")[0] in JOINED
