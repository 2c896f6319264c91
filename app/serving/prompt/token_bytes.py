"""The bytes of single tokens. A token may be half a character."""

import pickle
import re

from tokenizers import Tokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # SentencePiece's tokens for single bytes
_SPACE = "▁"  # what SentencePiece writes for a space


class TokenBytes:
    """Safe under threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
        # Pickled, a decoder is its JSON, which names its parts. That of the tokenizer has the vocabulary and is slow.
        self._byte_of = _alphabet() if b'"ByteLevel"' in pickle.dumps(tokenizer.decoder) else None

    def of(self, token: int) -> bytes:
        """Empty for an unknown id: the vocabulary of a model is often larger than that of its tokenizer."""
        if token in self._added:
            return self._added[token].encode()
        text = self._tokenizer.id_to_token(token) or ""
        if self._byte_of is not None:
            return bytes(self._byte_of[character] for character in text)
        byte = _BYTE.fullmatch(text)
        if byte is not None:
            return bytes([int(byte[1], 16)])
        return text.replace(_SPACE, " ").encode()


def _alphabet() -> dict[str, int]:
    """Byte-level BPE writes each byte as a printable character: itself where Latin-1 has a printable one, the others
    in order from U+0100 (Radford et al., GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}
