"""Token ids in, text out, piece by piece."""

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from app.contract.messages import TextEvent, TokenEvent


class StopStrings:
    """Lets text through up to the first stop string, which never comes out, nor does what follows it.

    Text that may still become a stop string is held back, and no more than that.
    """

    def __init__(self, stop: tuple[str, ...]) -> None:
        self.reached = False
        self._stop = stop
        self._held = ""

    def push(self, piece: str, *, last: bool) -> str:
        """What this piece makes visible; with `last` nothing is held back."""
        text, self._held = self._held + piece, ""
        end = self._end_of(text)
        if end is not None:
            self.reached = True
            return text[:end]
        keep = 0 if last else held_back(text, self._stop)
        text, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return text

    def _end_of(self, text: str) -> int | None:
        """Where the stop string that is complete first begins: the same however the text was cut into pieces."""
        found = [(start + len(stop), start) for stop in self._stop if (start := text.find(stop)) >= 0]
        return min(found)[1] if found else None


def held_back(text: str, strings: tuple[str, ...]) -> int:
    """The length of the longest end of `text` that one of `strings` begins with, without being all of it."""
    longest = max((len(string) for string in strings), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(string.startswith(text[-length:]) for string in strings):
            return length
    return 0


class TextStream:
    """One answer's detokenisation. Special tokens have no text.

    What comes out, joined, is what decoding all ids at once gives, up to the first stop string.
    """

    def __init__(self, tokenizer: Tokenizer, stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._stop = StopStrings(stop)
        self._ids: list[int] = []
        self._decoded = 0  # characters that came out of the decoder
        self._tokens: list[TokenEvent] = []  # not visible yet

    @property
    def stopped(self) -> bool:
        return self._stop.reached

    def push(self, event: TokenEvent) -> TextEvent | None:
        """The text that this token makes visible, if any. After it, look at `stopped`."""
        self._ids.append(event.token)
        self._tokens.append(event)
        piece = self._stream.step(self._tokenizer, event.token)
        return self._pass_on(piece, last=False) if piece else None

    def flush(self) -> TextEvent | None:
        """The rest, when no token follows: what was held back, and U+FFFD for half a character."""
        if self.stopped:
            return None
        rest = self._tokenizer.decode(self._ids, skip_special_tokens=True)[self._decoded :]
        return self._pass_on(rest, last=True)

    def _pass_on(self, piece: str, *, last: bool) -> TextEvent | None:
        self._decoded += len(piece)
        text = self._stop.push(piece, last=last)
        if not text:
            return None
        tokens, self._tokens = tuple(self._tokens), []
        return TextEvent(text, tokens)
