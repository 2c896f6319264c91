"""Token ids to text, token by token."""

from tokenizers import Tokenizer

from app.contract.events import TextEvent, TokenEvent

_INCOMPLETE = "\ufffd"
_MOST_PENDING = 8
"""Tokens that wait for the rest of a character. A character has at most four bytes, and a token at least one."""


class Detokenizer:
    """The detokenizer of one answer. Special tokens have no text.

    The texts that come out, joined, are what decoding all ids at once gives. Each token decodes only the last few
    ones again: they are the context that some tokenizers need, for a leading space.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._context: list[int] = []  # decoded again with the pending ones
        self._known = 0  # characters of the context's text that came out
        self._pending: list[int] = []  # no special tokens
        self._decoded = 0  # characters that came out so far
        self._tokens: list[TokenEvent] = []  # tokens whose text has not come out

    def push(self, event: TokenEvent) -> TextEvent | None:
        """The text that this token completes, if any: half a character waits for its other half."""
        self._ids.append(event.token)
        self._tokens.append(event)
        if self._decode([event.token] * 2) == "":  # twice: a single space at a beginning has no text either
            return None
        self._pending.append(event.token)
        text = self._decode(self._context + self._pending)
        if not text.endswith(_INCOMPLETE):
            return self._settle(text, self._pending, held=0)
        if len(self._pending) <= _MOST_PENDING:
            return None
        # Longer than any character: these bytes never become text. Only the last token may begin a character.
        return self._settle(text[:-1], self._pending[-_MOST_PENDING:], held=1)

    def flush(self) -> TextEvent:
        """The rest, when no token follows: U+FFFD for half a character. Its text may be empty."""
        return self._event(self._decode(self._ids)[self._decoded :])

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def _settle(self, text: str, context: list[int], *, held: int) -> TextEvent | None:
        """This text of context and pending tokens is final. The new context is decoded with the tokens that follow;
        its last `held` characters may still change."""
        new = text[self._known :]
        self._context, self._pending = context, []
        self._known = len(self._decode(context)) - held
        return self._event(new) if new else None

    def _event(self, text: str) -> TextEvent:
        self._decoded += len(text)
        tokens, self._tokens = tuple(self._tokens), []
        return TextEvent(text, tokens)
