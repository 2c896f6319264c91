"""When a key is accepted, and what its line must be."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from app.keys.record import KeyRecord, hash_of, moment

HASH = hash_of("key")


def test_a_key_ends_at_its_moment_and_not_before() -> None:
    record = KeyRecord.model_validate_json(f'{{"name": "a", "sha256": "{HASH}", "expires": "2027-01-31"}}')
    assert record.ended(datetime(2027, 1, 30, 23, 59, 59, tzinfo=UTC)) is None
    assert record.ended(datetime(2027, 1, 31, tzinfo=UTC)) == "expired at 2027-01-31 00:00 UTC"


def test_a_revoked_key_is_not_accepted_whatever_the_clock_says() -> None:
    record = KeyRecord(name="a", sha256=HASH, revoked=datetime(2999, 1, 1, tzinfo=UTC))
    assert record.ended(datetime(2026, 1, 1, tzinfo=UTC)) == "was revoked at 2999-01-01 00:00 UTC"


@pytest.mark.parametrize(
    ("text", "hour"), [("2027-01-31T18:00", 18), ("2027-01-31T18:00:00Z", 18), ("2027-01-31T18:00:00+02:00", 16)]
)
def test_times_are_utc_unless_they_say_otherwise(text: str, hour: int) -> None:
    assert moment(text) == datetime(2027, 1, 31, hour, tzinfo=UTC)


def test_a_hash_may_be_in_capitals() -> None:
    assert KeyRecord(name="a", sha256=HASH.upper()).sha256 == HASH


@pytest.mark.parametrize(
    "fields",
    [
        f'"sha256": "{HASH}"',
        f'"name": "", "sha256": "{HASH}"',
        '"name": "a"',
        f'"name": "a", "sha256": "{HASH[:-1]}"',
        f'"name": "a", "sha256": "{HASH}", "expires": "soon"',
        f'"name": "a", "sha256": "{HASH}", "expires": 1800000000',
        f'"name": "a", "sha256": "{HASH}", "key": "k"',
        f'"name": "a", "sha256": "{HASH}", "requests": 0',
        f'"name": "a", "sha256": "{HASH}", "log_content": "some"',
        f'"name": "a", "sha256": "{HASH}", "prompt_tokens": "10"',
    ],
)
def test_a_wrong_line_is_refused(fields: str) -> None:
    with pytest.raises(ValidationError):
        KeyRecord.model_validate_json(f"{{{fields}}}")
