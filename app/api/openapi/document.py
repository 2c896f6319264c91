"""The OpenAPI 3.1 document: request bodies, responses and errors of every path."""

from typing import Any

from app.api.classic.responses import ClassicError
from app.api.openapi.components import components, ref
from app.api.openapi.errors import error_components, error_responses
from app.api.openapi.examples import examples
from app.api.openapi.operations import OPERATIONS, PathOperation

_ABOUT = """OpenAI's API for the served model, Anthropic's, and the older `POST /`.

An unknown field is refused with a 400 that names it, and so is a value out of bounds. In OpenAI's API null means that
a field is absent. Rules about several fields are described in words only. docs/api.md has examples.
"""

_LICENCE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
_HEADERS: dict[str, Any] = {
    "RequestId": {
        "description": "The request's id, in every answer and in all logs.",
        "required": True,
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds after which a retry can succeed, where that is known.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "ShouldRetry": {
        "description": "`false` where the same request would end in the same way.",
        "schema": {"type": "string", "enum": ["false"]},
    },
}
_SECURITY = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of API_KEYS_FILE. Without that setting the server needs none.",
    },
    "header": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same, as Anthropic has it.",
    },
}


def openapi_document(model: str) -> dict[str, Any]:
    """`model` is the served model's name, for the examples."""
    bodies = list(dict.fromkeys(body for operation in OPERATIONS for body in operation.bodies))
    answers = [body for each in OPERATIONS for body in (each.answer, each.refusal, *each.stream) if body]
    bodies_by_example = examples(model)
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        described = _operation(operation, bodies_by_example.get(operation.id, {}), model)
        paths.setdefault(operation.path, {})[operation.method] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Two-GPU serving", "version": "1", "description": _ABOUT, "license": _LICENCE},
        "paths": paths,
        "components": {
            "schemas": components(bodies, answers),
            "responses": error_components(),
            "headers": _HEADERS,
            "securitySchemes": _SECURITY,
        },
        "security": [{}, {"key": []}, {"header": []}],
    }


def _operation(operation: PathOperation, bodies: dict[str, Any], model: str) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.id, "summary": operation.summary}
    if operation.public:
        described["security"] = []
    if "{name}" in operation.path:
        described["parameters"] = [
            {
                "name": "name",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "example": model,
            }
        ]
    if operation.bodies:
        described["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": _one_of(operation),
                    "examples": {name: {"value": body} for name, body in bodies.items()},
                }
            },
        }
    described["responses"] = {"200": _success(operation)} | _errors(operation)
    return described


def _one_of(operation: PathOperation) -> dict[str, Any]:
    refs = [ref(body) for body in operation.bodies]
    return refs[0] if len(refs) == 1 else {"anyOf": refs}


def _success(operation: PathOperation) -> dict[str, Any]:
    content: dict[str, Any] = {"text/html": {"schema": {"type": "string"}}}
    if operation.answer is not None:
        content = {"application/json": {"schema": ref(operation.answer)}}
    if operation.stream:
        content["text/event-stream"] = {"schema": _event(operation)}
    headers = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
    return {"description": "The answer.", "headers": headers, "content": content}


def _event(operation: PathOperation) -> dict[str, Any]:
    """The schema of each event of a stream. OpenAPI 3.1 has no place for it; tools read it here."""
    objects = {"anyOf": [ref(body) for body in operation.stream]}
    data: dict[str, Any] = {"type": "string", "contentMediaType": "application/json", "contentSchema": objects}
    if operation.done:
        data = {"anyOf": [{"const": "[DONE]"}, data]}
    return {
        "type": "object",
        "description": "Each server-sent event. Comments keep the connection alive while nothing comes.",
        "properties": {"data": data},
        "required": ["data"],
    }


def _errors(operation: PathOperation) -> dict[str, Any]:
    errors = error_responses(operation.errors, body=bool(operation.bodies))
    if operation.refusal is not None:
        # The app's body, and that of nginx while the app does not answer.
        bodies = [ref(operation.refusal), ref(ClassicError)]
        errors["503"] = {
            "description": "The server does not serve yet, or no longer.",
            "content": {"application/json": {"schema": {"anyOf": bodies}}},
        }
    return errors
