"""The bytes of a text's tokens, one after another, are the text's bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from app.serving.prompt.token_bytes import TokenBytes


@pytest.fixture(scope="module")
def tokenizer(embedded_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(embedded_model / "tokenizer.json"))


@pytest.fixture(scope="module")
def token_bytes(tokenizer: Tokenizer) -> TokenBytes:
    return TokenBytes(tokenizer)


@given(text=st.text(max_size=50))
def test_byte_level(tokenizer: Tokenizer, token_bytes: TokenBytes, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    decoded = tokenizer.decode(ids, skip_special_tokens=False)  # the text, but for bytes that it has no tokens for
    assert b"".join(map(token_bytes.of, ids)).decode(errors="replace") == decoded


def test_control_tokens_are_their_names(token_bytes: TokenBytes) -> None:
    assert token_bytes.of(2) == b"<|im_end|>"


def test_an_id_beyond_the_tokenizer_is_nothing(token_bytes: TokenBytes) -> None:
    assert token_bytes.of(10**6) == b""


def test_sentence_piece() -> None:
    tokenizer = Tokenizer(models.BPE({"▁hello": 0, "<0xE4>": 1, "▁": 2}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    assert [TokenBytes(tokenizer).of(token) for token in range(4)] == [b" hello", b"\xe4", b" ", b"</s>"]
