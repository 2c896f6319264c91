"""The model's tokenizer in two forms: as published, for decoding; and one for encoding, in which text of users never
becomes a control token.

A control token such as `<|im_end|>` has a meaning only where the chat template writes it. So in the encoding
tokenizer every control token has a secret name. Control strings of the template are replaced by the secret names
before encoding, those in text of users are not, and the encoder does not know the public names. Only names differ, so
ordinary text gets the same ids as from the published tokenizer.
"""

import json
import re
import secrets
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from app.contract.control_tokens import control_tokens


class TokenizerUnusable(Exception):
    """The model's tokenizer files are missing or cannot be made safe; the message is for the operator."""


class ModelTokenizer:
    """Reads `tokenizer.json` from a model's folder. Raises TokenizerUnusable. Safe under threads."""

    def __init__(self, folder: Path) -> None:
        try:
            data = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            self.published = Tokenizer.from_str(json.dumps(data))
        except (OSError, ValueError) as error:
            raise TokenizerUnusable(f"{folder / 'tokenizer.json'} cannot be read: {error}") from error
        self.control_tokens = control_tokens(data)
        self.vocabulary = self.published.get_vocab_size(with_added_tokens=True)
        nonce = secrets.token_hex(8)  # so that text of users cannot contain a secret name
        self._secret = {text: f"\U000f0000{nonce}:{n}\U000f0001" for n, text in enumerate(self.control_tokens)}
        self._shield = {text: f"\U000f0002{nonce}:{n}\U000f0003" for n, text in enumerate(self.control_tokens)}
        self._unshield = {shielded: text for text, shielded in self._shield.items()}
        self._encoder = _renamed(data, self._secret)
        self._public_pattern = _any_of(self._secret)
        self._shielded_pattern = _any_of(self._unshield)
        for text, secret in self._secret.items():
            if self._encoder.token_to_id(secret) != self.control_tokens[text]:
                raise TokenizerUnusable(f"the control token {text} of {folder} changes its id when it is renamed")

    def shield(self, text: str, keep: Container[str] = ()) -> str:
        """Text of a user in which control strings, but those to `keep`, are marked as text, for `encode`."""
        return self._public_pattern.sub(lambda match: match[0] if match[0] in keep else self._shield[match[0]], text)

    def unshield(self, text: str) -> str:
        return self._shielded_pattern.sub(lambda match: self._unshield[match[0]], text)

    def encode(self, rendered: str) -> list[int]:
        """The ids of a rendered template. Control strings in it are control tokens, except for shielded ones."""
        secret = self._public_pattern.sub(lambda match: self._secret[match[0]], rendered)
        return self.encode_text(self.unshield(secret))

    def encode_text(self, text: str) -> list[int]:
        """The ids of ordinary text: never a control token."""
        # A batch of one: `encode` holds the interpreter's lock, so a long text would block the event loop from any
        # thread (0.6 s for 1 MB).
        return self._encoder.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of any ids, with the public names of control tokens; invalid UTF-8 becomes U+FFFD."""
        return self.published.decode_batch([list(tokens)], skip_special_tokens=False)[0]

    def names(self, tokens: Sequence[int]) -> list[str | None]:
        """The ids' names in the vocabulary, where a space may be written as `Ġ` or `▁`; None for an unused id."""
        return [self.published.id_to_token(token) for token in tokens]


def _any_of(strings: dict[str, str]) -> re.Pattern[str]:
    longest_first = sorted(strings, key=len, reverse=True)
    return re.compile("|".join(re.escape(string) for string in longest_first) or r"(?!)")


def _renamed(data: dict[str, Any], names: dict[str, str]) -> Tokenizer:
    """The same tokenizer with other names for some tokens, in the added tokens and in the model's vocabulary."""
    for token in data["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = data["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(text, text): number for text, number in vocabulary.items()}
    else:  # Unigram: a list of (text, score), whose position is the id
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    data["post_processor"] = None  # it would add control tokens by their public names
    try:
        return Tokenizer.from_str(json.dumps(data))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerUnusable(f"its control tokens cannot be told from text: {error}") from error
