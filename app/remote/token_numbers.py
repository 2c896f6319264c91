"""Numbers for tokens of other servers, which tell a token's bytes and not its id.

The number is the bytes themselves, so nothing is kept: FIRST and the bytes after it, as one integer. No id of a
vocabulary is as large.
"""

from app.contract.errors import UnsupportedField

_FIRST = b"\x01\x00\x00\x00\x00"


def number_of(raw: bytes) -> int:
    return int.from_bytes(_FIRST + raw, "big")


def bytes_of(number: int) -> bytes:
    """Raises UnsupportedField for an id of a vocabulary, which a client may have sent as its prompt."""
    whole = number.to_bytes((number.bit_length() + 7) // 8, "big")
    if not whole.startswith(_FIRST):
        raise UnsupportedField(
            "echo is not supported with a prompt of token ids: this server's engine is remote, and does not know "
            "their texts.",
            param="echo",
        )
    return whole[len(_FIRST) :]
