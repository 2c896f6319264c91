"""Log-probabilities in OpenAI's two forms."""

from codecs import getincrementaldecoder
from collections.abc import Callable, Sequence

from app.api.openai.responses import ChatLogprobs, ChosenTokenLogprob, TextLogprobs, TokenLogprob
from app.contract.events import TextEvent, TokenEvent

BytesOf = Callable[[int], bytes]

_Utf8 = getincrementaldecoder("utf-8")

_LEAST = -9999.0
"""Instead of minus infinity, which JSON lacks; OpenAI writes this."""


def chat_logprobs(events: Sequence[TextEvent], bytes_of: BytesOf) -> ChatLogprobs:
    """Of every visible token, which a stop token is not. `bytes` distinguishes the halves of a character."""
    content: list[ChosenTokenLogprob] = [
        {
            **_chat_entry(token.token, token.logprob, bytes_of),
            "top_logprobs": [_chat_entry(other, value, bytes_of) for other, value in token.top_logprobs],
        }
        for event in events
        for token in event.tokens
    ]
    return {"content": content, "refusal": None}


def _chat_entry(token: int, logprob: float | None, bytes_of: BytesOf) -> TokenLogprob:
    raw = bytes_of(token)
    return {"token": raw.decode(errors="replace"), "bytes": list(raw), "logprob": _finite(logprob)}


class LegacyLogprobs:
    """The four lists of `/v1/completions`. Keeps the offset in the answer's text from one chunk to the next."""

    def __init__(self, bytes_of: BytesOf) -> None:
        self._bytes_of = bytes_of
        self._offset = 0

    def of(self, events: Sequence[TextEvent]) -> TextLogprobs:
        tokens: list[str] = []
        offsets: list[int] = []
        picked: list[TokenEvent] = []
        for event in events:
            characters, seen = _Utf8(errors="replace"), 0
            for token in event.tokens:
                raw = self._bytes_of(token.token)
                # Half a character has no text yet, and a stop string may have cut the text of the last token.
                offsets.append(self._offset + min(seen, len(event.text)))
                tokens.append(_name(raw))
                picked.append(token)
                seen += len(characters.decode(raw))
            self._offset += len(event.text)
        return {
            "tokens": tokens,
            "token_logprobs": [None if token.logprob is None else _finite(token.logprob) for token in picked],
            "top_logprobs": [self._top(token) for token in picked],
            "text_offset": offsets,
        }

    def _top(self, token: TokenEvent) -> dict[str, float] | None:
        """Of tokens with one text the most likely."""
        if token.logprob is None:
            return None
        top: dict[str, float] = {}
        for other, value in token.top_logprobs:
            top.setdefault(_name(self._bytes_of(other)), _finite(value))
        return top


def _name(raw: bytes) -> str:
    """The token's text, or its bytes in OpenAI's notation, because the keys of an object must differ."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _finite(logprob: float | None) -> float:
    return _LEAST if logprob is None else max(logprob, _LEAST)
