"""From an answer's text to the pieces that its client gets, when it calls no tools; and what every parser offers."""

from typing import Protocol

from app.contract.events import Piece, TextEvent, TokenEvent
from app.contract.requests import LineLimits
from app.serving.line_end import LineEnd
from app.serving.stop_strings import StopStrings


class Parser(Protocol):
    """Reads an answer's text and makes pieces of it. Belongs to one answer."""

    @property
    def stopped(self) -> bool:
        """The answer has ended here: at a stop string, a limit of its lines, or before a call that repeats an
        earlier one."""
        ...

    @property
    def stop_string(self) -> str | None:
        """The stop string that was found."""
        ...

    @property
    def whole_calls(self) -> bool:
        """Whether tool calls came out so far, and all of them are whole."""
        ...

    def push(self, event: TextEvent) -> list[Piece]:
        """The pieces that this text makes visible."""
        ...

    def flush(self) -> list[Piece]:
        """The rest, when no text follows."""
        ...


class PlainParser:
    """For an answer that calls no tools: its text up to the first stop string, or to where its lines end it.

    With `every_token` those at its end that have no text, as a stop token, come out too.
    """

    whole_calls = False

    def __init__(
        self,
        stop: tuple[str, ...] = (),
        lines: LineLimits = LineLimits(),  # noqa: B008  # frozen
        *,
        every_token: bool = False,
    ) -> None:
        self._stop = StopStrings(stop)
        self._lines = LineEnd(lines)
        self._every_token = every_token
        self._tokens: list[TokenEvent] = []  # tokens whose text is held back

    @property
    def stopped(self) -> bool:
        return self._stop.reached is not None or self._lines.reached

    @property
    def stop_string(self) -> str | None:
        return self._stop.reached

    def push(self, event: TextEvent) -> list[Piece]:
        if self.stopped:
            return []
        self._tokens += event.tokens
        text = self._stop.push(event.text, last=False)
        return self._visible(self._lines.push(text, last=self._stop.reached is not None))

    def flush(self) -> list[Piece]:
        if self.stopped:
            return []
        return self._visible(self._lines.push(self._stop.push("", last=True), last=True), last=True)

    def _visible(self, text: str, *, last: bool = False) -> list[Piece]:
        if not text and not (last and self._every_token and self._tokens):
            return []
        tokens, self._tokens = tuple(self._tokens), []
        return [TextEvent(text, tokens)]
