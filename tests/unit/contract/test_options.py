"""Which of several modes of logging shows the least."""

import pytest

from app.contract.options import LogContent, least_content


@pytest.mark.parametrize(
    ("modes", "least"),
    [
        (("full", "off"), "off"),
        (("off", "full"), "off"),
        (("hash", "redacted"), "redacted"),
        (("hash", "full"), "hash"),
        (("full", "masked"), "masked"),
        (("masked", "hash"), "hash"),
        (("redacted", None), "redacted"),
        ((None, None), "full"),
    ],
)
def test_the_mode_that_shows_the_least(modes: tuple[str | None, ...], least: str) -> None:
    assert least_content(*(None if mode is None else LogContent(mode) for mode in modes)) == least
