"""The tree of errors is what its documentation says, and what clients can build on."""

import re

import pytest

from app.api.classic.responses import classic_error
from app.contract import errors
from app.contract.errors import (
    DeadlineExceeded,
    GrammarExhausted,
    NoTokenLeft,
    Overloaded,
    ServingError,
    Unauthorized,
    every_error,
)
from tests.support.error_responses import response_to

LINE = re.compile(r"^[ │├└─]*(\w+) +(\d{3}) (\w+)", re.MULTILINE)
DOCUMENTED = {name: (int(status), code) for name, status, code in LINE.findall(errors.__doc__ or "")}
EVERY = list(every_error())
FINAL = {GrammarExhausted, NoTokenLeft, DeadlineExceeded}
"""Trying again gives the same."""


def test_the_docstring_lists_every_error_as_it_is() -> None:
    assert {error.__name__: (error.status, error.code) for error in EVERY} == DOCUMENTED


def test_the_docstring_shows_the_tree() -> None:
    lines = LINE.finditer(errors.__doc__ or "")
    depths = {match[1]: (match.start(1) - match.start(0)) // 4 for match in lines}
    for error in EVERY:
        assert depths[error.__name__] - depths["ServingError"] == len(error.__mro__) - len(ServingError.__mro__)


def test_each_code_names_one_error() -> None:
    assert len({error.code for error in EVERY}) == len(EVERY)


@pytest.mark.parametrize("error", EVERY)
def test_each_becomes_its_envelope(error: type[ServingError]) -> None:
    response = response_to(error("It says what is wrong.", retry_after=1.2), "/")
    assert response.status_code == error.status
    assert response.headers["retry-after"] == "2"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers.get("x-should-retry") == ("false" if error in FINAL else None)
    envelope = classic_error(error("It says what is wrong."))
    assert envelope["status"] == error.status
    assert envelope["error"] == {"code": error.code, "message": "It says what is wrong."}
    assert 400 <= error.status <= 599


def test_a_time_to_come_again_is_at_least_a_second_and_only_there_when_known() -> None:
    assert response_to(Overloaded("full", retry_after=0.01), "/").headers["retry-after"] == "1"
    assert "retry-after" not in response_to(Overloaded("full"), "/").headers


def test_a_missing_key_says_which_kind_is_wanted() -> None:
    assert response_to(Unauthorized("no"), "/").headers["www-authenticate"] == "Bearer"
