"""Log-probabilities of half characters, of the impossible, and across chunks."""

from app.api.openai.logprobs import LegacyLogprobs, chat_logprobs
from app.contract.events import TextEvent, TokenEvent

TOKENS = {1: b"a", 2: "ä".encode()[:1], 3: "ä".encode()[1:], 4: b"stop here"}
INFINITE = float("-inf")


def test_half_a_character_has_its_bytes() -> None:
    event = TextEvent("ä", (TokenEvent(2, -1.0), TokenEvent(3, -2.0, ((1, INFINITE),))))
    first, second = chat_logprobs([event], TOKENS.__getitem__)["content"]
    assert first == {"token": "\ufffd", "bytes": [0xC3], "logprob": -1.0, "top_logprobs": []}
    assert second["top_logprobs"] == [{"token": "a", "bytes": [97], "logprob": -9999.0}]


def test_offsets_go_on_from_chunk_to_chunk() -> None:
    legacy = LegacyLogprobs(TOKENS.__getitem__)
    first = legacy.of(
        [TextEvent("a", (TokenEvent(1, -1.0),)), TextEvent("ä", (TokenEvent(2, -1.0), TokenEvent(3, INFINITE)))]
    )
    assert first["tokens"] == ["a", "bytes:\\xc3", "bytes:\\xa4"]
    assert first["text_offset"] == [0, 1, 1]
    assert first["token_logprobs"] == [-1.0, -1.0, -9999.0]
    assert legacy.of([TextEvent("a", (TokenEvent(1, -1.0),))])["text_offset"] == [2]


def test_what_a_stop_string_cut_off_has_its_place_at_the_end() -> None:
    event = TextEvent("stop", (TokenEvent(4, -1.0), TokenEvent(1, -1.0)))
    assert LegacyLogprobs(TOKENS.__getitem__).of([event])["text_offset"] == [0, 4]


def test_the_first_token_of_a_prompt_has_none() -> None:
    written = LegacyLogprobs(TOKENS.__getitem__).of(
        [TextEvent("aa", (TokenEvent(1), TokenEvent(1, -1.0, ((1, -1.0),))))]
    )
    assert written["token_logprobs"] == [None, -1.0]
    assert written["top_logprobs"] == [None, {"a": -1.0}]
    assert written["text_offset"] == [0, 1]


def test_of_two_tokens_with_one_text_the_likelier_one_counts() -> None:
    same = {1: b"a", 5: b"a", 6: b"b"}
    event = TextEvent("a", (TokenEvent(1, -1.0, ((1, -1.0), (6, -2.0), (5, -3.0))),))
    assert LegacyLogprobs(same.__getitem__).of([event])["top_logprobs"] == [{"a": -1.0, "b": -2.0}]


def test_what_is_no_text_has_one_place_for_each_wrong_byte() -> None:
    event = TextEvent("\ufffda", (TokenEvent(3, -1.0), TokenEvent(1, -1.0)))
    assert LegacyLogprobs(TOKENS.__getitem__).of([event])["text_offset"] == [0, 1]
