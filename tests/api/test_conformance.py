"""Schemathesis against the app over a scripted engine: the document and the parsers say the same."""

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from schemathesis import Case

from app.api.openapi.document import openapi_document
from app.engine.scripted import SCRIPTED_MODEL
from tests.support.conformance import conforms, settings
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer

schema = schemathesis.openapi.from_dict(openapi_document(SCRIPTED_MODEL.name))


@pytest.fixture
def address(serve: Callable[..., LiveServer]) -> str:
    return serve(ControlledEngine([100, 101])).url


@schema.parametrize()
@settings(examples=30)
def test_every_operation_does_what_the_document_says(case: Case[Any], address: str) -> None:
    conforms(case, address)
