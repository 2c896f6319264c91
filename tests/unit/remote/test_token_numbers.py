"""Numbers of tokens are their bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contract.errors import UnsupportedField
from app.remote.token_numbers import bytes_of, number_of


@given(st.binary(max_size=64))
def test_bytes_come_back(raw: bytes) -> None:
    assert bytes_of(number_of(raw)) == raw


@given(st.integers(0, 10_000_000))
def test_an_id_of_a_vocabulary_is_no_such_number(token: int) -> None:
    with pytest.raises(UnsupportedField):
        bytes_of(token)
