"""Bodies are read strictly, and no refusal quotes one."""

import pytest

from app.api.http.read_json import parse_object
from app.contract.errors import InvalidRequest

SECRET = "my-secret-prompt"

BAD = {
    "malformed": b'{"prompt": "my-secret-prompt"',
    "not an object": b'["my-secret-prompt"]',
    "empty": b"",
    "NaN": b'{"prompt": "my-secret-prompt", "top_p": NaN}',
    "infinity": b'{"prompt": "my-secret-prompt", "top_p": -Infinity}',
    "1e999": b'{"prompt": "my-secret-prompt", "top_p": 1e999}',
    "5000 digits": b'{"prompt": "my-secret-prompt", "max_length": ' + b"9" * 5000 + b"}",
    "5000 decimals": b'{"prompt": "my-secret-prompt", "max_length": 0.' + b"1" * 5000 + b"}",
    "lone surrogate": rb'{"prompt": "my-secret-prompt \ud800"}',
    "lone surrogate in a key": rb'{"my-secret-prompt \udfff": 1}',
    "deep": b'{"prompt": "my-secret-prompt", "history": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
    "deep objects": b'{"a":' * 40_000 + b'"my-secret-prompt"' + b"}" * 40_000,
    "duplicate key": b'{"prompt": "a", "prompt": "my-secret-prompt"}',
    "duplicate key inside": b'{"history": [{"my-secret-prompt": 1, "my-secret-prompt": 2}]}',
    "invalid UTF-8": b'{"prompt": "my-secret-prompt \xff"}',
    "two byte order marks": b'\xef\xbb\xbf\xef\xbb\xbf{"prompt": "my-secret-prompt"}',
    "control character": b'{"prompt": "my-secret-prompt \x01"}',
    "trailing data": b'{"prompt": "a"} my-secret-prompt',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_bad_bodies_are_the_clients_error_and_are_not_repeated(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_object(body)
    assert SECRET not in refusal.value.message
    assert refusal.value.__cause__ is None


def test_a_body_may_begin_with_a_byte_order_mark() -> None:
    assert parse_object(b'\xef\xbb\xbf{"prompt": "hi"}') == {"prompt": "hi"}


def test_good_bodies_are_read() -> None:
    assert parse_object('{"a": "你好 \\ud83c\\udf89", "b": [1, 2.5, null, true]}'.encode()) == {
        "a": "你好 🎉",
        "b": [1, 2.5, None, True],
    }
