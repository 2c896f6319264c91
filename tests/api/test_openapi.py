"""`/openapi.json` as it is served."""

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.api.openapi.examples import examples
from app.api.openapi.operations import OPERATIONS
from app.engine.scripted import SCRIPTED_MODEL
from tests.api.conftest import MakeApp, MakeClient
from tests.support.controlled import ControlledEngine

PATHS = {operation.id: operation.path for operation in OPERATIONS}
NEEDS_A_GAP = {"infill"}  # tests/api/test_infill.py answers its examples, with a model that can
EXAMPLES = [
    pytest.param(PATHS[operation], body, id=f"{operation}: {name}")
    for operation, bodies in examples(SCRIPTED_MODEL.name).items()
    for name, body in bodies.items()
    if operation not in NEEDS_A_GAP
]
NOT_IN_IT = {
    ("GET", "/metrics"),  # not public
    ("GET", "/openapi.json"),
    ("GET", "/playground/{name}"),  # files of the page
}


def routes(app: FastAPI) -> set[tuple[str, str]]:
    found = set()
    for included in app.routes:
        for route in included.original_router.routes:  # type: ignore[attr-defined]  # FastAPI's own class has no type
            found |= {(method, route.path.replace(":path", "")) for method in route.methods & {"GET", "POST"}}
    return found


def test_every_route_is_in_the_document_and_every_operation_has_a_route(
    make_app: MakeApp, client: TestClient
) -> None:
    document = client.get("/openapi.json").json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == routes(make_app(ControlledEngine())) - NOT_IN_IT


@pytest.mark.parametrize(("path", "body"), EXAMPLES)
def test_every_example_is_answered(client: TestClient, path: str, body: dict[str, Any]) -> None:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text


def test_the_document_needs_no_key_but_what_it_describes_does(make_client: MakeClient, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ada:secret-key\n")
    client = make_client(ControlledEngine(), api_keys_file=keys)
    document = client.get("/openapi.json")
    assert document.status_code == 200
    for operation in OPERATIONS:
        status = client.request(operation.method, operation.path.replace("{name}", "scripted")).status_code
        assert (status != 401) == (document.json()["paths"][operation.path][operation.method].get("security") == [])
