"""From the tokens of an answer to the pieces that its client gets, with tools or without."""

from app.contract.events import Piece, TokenEvent
from app.serving.detokenizer import Detokenizer
from app.serving.parser import Parser


class OutputStream:
    """Tokens of one answer in, pieces out."""

    def __init__(self, detokenizer: Detokenizer, parser: Parser) -> None:
        self._detokenizer = detokenizer
        self._parser = parser

    @property
    def stopped(self) -> bool:
        """Nothing more comes out, whatever follows."""
        return self._parser.stopped

    @property
    def stop_string(self) -> str | None:
        """The stop string that was found."""
        return self._parser.stop_string

    @property
    def whole_calls(self) -> bool:
        """Whether tool calls came out so far, and all of them are whole."""
        return self._parser.whole_calls

    def push(self, event: TokenEvent) -> list[Piece]:
        text = self._detokenizer.push(event)
        return [] if text is None else self._parser.push(text)

    def flush(self) -> list[Piece]:
        """The rest, when no token follows."""
        return [*self._parser.push(self._detokenizer.flush()), *self._parser.flush()]
