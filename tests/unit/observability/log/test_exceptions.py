"""Exceptions in the log: where and what, and a library's message only where content is logged in full."""

import logging

import pytest
import structlog

from app.contract.errors import GenerationFailed
from app.contract.options import CONTENT_OF_KEY
from tests.unit.observability.conftest import Configure

QUOTED = "a secret prompt"


def fail(error: Exception, cause: Exception | None = None) -> None:
    try:
        raise error from cause
    except type(error):
        logging.getLogger("app.test").exception("it failed")


@pytest.mark.parametrize("content", ["masked", "hash", "redacted", "off"])
def test_a_librarys_message_is_told_by_its_length(configure: Configure, content: str) -> None:
    read = configure(log_content=content)
    fail(ValueError(f"cannot tokenize {QUOTED}"))
    (line,) = read()
    assert QUOTED not in str(line)
    assert "in fail" in line["exception"]
    assert line["exception"].endswith("builtins.ValueError: [31 characters]")


def test_in_full_it_is_told_as_it_is(configure: Configure) -> None:
    read = configure(log_content="full")
    fail(ValueError(QUOTED))
    assert read()[0]["exception"].endswith(f"ValueError: {QUOTED}")


def test_an_api_key_may_have_less(configure: Configure) -> None:
    read = configure(log_content="full")
    with structlog.contextvars.bound_contextvars(**{CONTENT_OF_KEY: "off"}):
        fail(ValueError(QUOTED))
    (line,) = read()
    assert QUOTED not in str(line)
    assert CONTENT_OF_KEY not in line


def test_our_own_words_stay_and_a_cause_loses_its_own(configure: Configure) -> None:
    read = configure(log_content="off")
    fail(GenerationFailed(), ValueError(QUOTED))
    (line,) = read()
    assert QUOTED not in str(line)
    assert line["exception"].endswith(f"app.contract.errors.GenerationFailed: {GenerationFailed()}")


def test_an_error_beside_no_exception_has_none(configure: Configure) -> None:
    read = configure(log_content="off")
    logging.getLogger("app.test").error("no exception", exc_info=(None, None, None))
    assert "exception" not in read()[0]
