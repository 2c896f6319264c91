"""The document knows every route, field and error."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from app.api.openai.bodies.chat import ChatBody
from app.api.openai.errors import openai_error
from app.api.openapi.document import openapi_document
from app.api.openapi.errors import PROXY
from app.api.openapi.operations import OPERATIONS
from app.contract.errors import ClientClosed, InvalidRequest, ServingError, every_error

ROOT = Path(__file__).parents[4]
SENT = [error for error in every_error() if error is not ClientClosed]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document("scripted")


def codes(document: dict[str, Any], name: str) -> list[str]:
    schema = document["components"]["responses"][name]["content"]["application/json"]["schema"]
    found: list[str] = schema["allOf"][1]["properties"]["error"]["properties"]["code"]["enum"]
    return found


def whole(document: dict[str, Any], schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """A validator that finds the components."""
    return jsonschema.Draft202012Validator(schema | {"components": document["components"]})


@pytest.mark.parametrize("error", SENT)
def test_every_error_of_the_tree_is_there_in_each_form(document: dict[str, Any], error: type[ServingError]) -> None:
    assert error.code in codes(document, f"Classic{error.status}")
    assert openai_error(error())["error"]["code"] in codes(document, f"OpenAI{error.status}")
    assert error.code in codes(document, f"Anthropic{error.status}")


def test_nginx_own_errors_are_those_of_its_configuration(document: dict[str, Any]) -> None:
    configured = (ROOT / "nginx" / "snippets" / "errors.conf").read_text(encoding="utf-8")
    block = configured.partition("map $status $error_code {")[2].partition("}")[0]
    said = {int(status): code for status, code in re.findall(r"^ +(\d{3}) (\w+);", block, re.MULTILINE)}
    assert said | {500: "internal_error"} == PROXY
    for status, code in PROXY.items():
        assert code in codes(document, f"Classic{status}")
        for form in ("OpenAI", "Anthropic"):
            assert status == 414 or code in codes(document, f"{form}{status}")
    too_long = document["paths"]["/v1/models"]["get"]["responses"]["414"]
    assert too_long == {"$ref": "#/components/responses/Classic414"}


def test_every_errors_example_has_the_form_of_its_schema(document: dict[str, Any]) -> None:
    for response in document["components"]["responses"].values():
        content = response["content"]["application/json"]
        for example in content["examples"].values():
            whole(document, content["schema"]).validate(example["value"])


def test_every_field_of_every_body_is_explained(document: dict[str, Any]) -> None:
    silent = {
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field, about in schema["properties"].items()
        if name.endswith("Body") and "description" not in about
    }
    assert silent == set()


def test_every_body_has_examples_that_fit_it(document: dict[str, Any]) -> None:
    for operation in OPERATIONS:
        if operation.bodies:
            described = document["paths"][operation.path][operation.method]["requestBody"]["content"]
            examples = described["application/json"]["examples"]
            assert examples, operation.id
            for example in examples.values():
                whole(document, described["application/json"]["schema"]).validate(example["value"])


def test_null_is_absence_where_openais_clients_write_it(document: dict[str, Any]) -> None:
    chat = whole(document, {"$ref": "#/components/schemas/ChatBody"})
    message = {"role": "user", "content": "a", "name": None}
    assert chat.is_valid({"messages": [message], "temperature": None, "unknown": None})
    assert not chat.is_valid({"messages": None})
    assert not chat.is_valid({"messages": [message], "unknown": 1})


USER = {"role": "user", "content": "a"}
BOUNDS: list[tuple[str, int, Callable[[int], Any]]] = [
    ("messages", 4096, lambda most: [USER] * most),
    ("tools", 128, lambda most: [{"type": "function", "function": {"name": f"f{n}"}} for n in range(most)]),
    ("logit_bias", 300, lambda most: {str(n): 1 for n in range(most)}),
    ("logit_bias", 100, lambda most: {"1": most}),
    ("metadata", 16, lambda most: {str(n): "" for n in range(most)}),
    ("metadata", 64, lambda most: {"a" * most: ""}),
    ("metadata", 512, lambda most: {"a": "a" * most}),
    ("stop", 16, lambda most: ["a"] * most),
    ("stop", 256, lambda most: "a" * most),
    ("user", 512, lambda most: "a" * most),
    ("n", 16, lambda most: most),
    ("top_logprobs", 20, lambda most: most),
]


@pytest.mark.parametrize(("field", "most", "made"), BOUNDS, ids=[f"{field} {most}" for field, most, _ in BOUNDS])
def test_the_parser_and_the_document_have_the_same_bounds(
    document: dict[str, Any], field: str, most: int, made: Callable[[int], Any]
) -> None:
    chat = whole(document, {"$ref": "#/components/schemas/ChatBody"})
    fitting, beyond = ({"messages": [USER], "logprobs": True, field: made(size)} for size in (most, most + 1))
    chat.validate(fitting)
    ChatBody.parse(fitting)
    assert not chat.is_valid(beyond)
    with pytest.raises(InvalidRequest):
        ChatBody.parse(beyond)


def test_schemas_are_json_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
