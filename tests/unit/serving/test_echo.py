"""The prompt before its answer comes out once, when it is whole."""

from app.contract.events import PromptEvent, TextEvent, TokenEvent
from app.serving.echo import Echo

TOKENS = tuple(TokenEvent(number, -1.0) for number in range(4))


def test_it_comes_out_with_its_last_token() -> None:
    echo = Echo("text", 4, leading=0)
    assert echo.push(PromptEvent(TOKENS[:3])) == []
    assert not echo.whole
    assert echo.push(PromptEvent(TOKENS[3:])) == [TextEvent("text", TOKENS)]
    assert echo.whole


def test_leading_tokens_are_no_text() -> None:
    assert Echo("text", 4, leading=1).push(PromptEvent(TOKENS)) == [
        TextEvent("", TOKENS[:1]),
        TextEvent("text", TOKENS[1:]),
    ]
