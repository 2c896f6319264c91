"""Token ids to text, token by token."""

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from app.contract.messages import TextEvent, TokenEvent


class Detokenizer:
    """The detokenizer of one answer. Special tokens have no text.

    The texts that come out, joined, are what decoding all ids at once gives.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._decoded = 0  # characters that came out so far
        self._tokens: list[TokenEvent] = []  # tokens whose text has not come out

    def push(self, event: TokenEvent) -> TextEvent | None:
        """The text that this token completes, if any: half a character waits for its other half."""
        self._ids.append(event.token)
        self._tokens.append(event)
        text = self._stream.step(self._tokenizer, event.token)
        return self._event(text) if text else None

    def flush(self) -> TextEvent:
        """The rest, when no token follows: U+FFFD for half a character. Its text may be empty."""
        return self._event(self._tokenizer.decode(self._ids, skip_special_tokens=True)[self._decoded :])

    def _event(self, text: str) -> TextEvent:
        self._decoded += len(text)
        tokens, self._tokens = tuple(self._tokens), []
        return TextEvent(text, tokens)
