"""Tells the words of an answer's text from its tool calls, piece by piece."""

import re
import secrets
from collections.abc import Callable, Iterator

from app.contract.events import Piece, TextEvent, TokenEvent, ToolCallEvent
from app.serving.stop_strings import StopStrings, held_back
from app.serving.tools.format import CALL_TAIL, OPEN
from app.serving.tools.repeats import Repeats

_HEAD = re.compile(r'\n\{"name": "([^"]+)", "arguments": ')


class ToolParser:
    """Reads text that keeps to the grammar in `grammar.py`. Stop strings are looked for in words, never in calls.

    When an answer is cut within a call, a part of the call's name does not come out; a part of its arguments does.
    A call that repeats an earlier one ends the answer before it: it comes out once it differs from all of them.
    Without `words` the answer has nothing but calls.
    """

    def __init__(self, stop: tuple[str, ...], *, words: bool = True) -> None:
        self._has_words = words
        self._stop = StopStrings(stop)
        self._text = ""  # not parsed yet
        self._tokens: list[TokenEvent] = []  # tokens of no piece yet
        self._read: Callable[[], Iterator[Piece]] = self._read_words
        self._arguments = _ArgumentsEnd()
        self._repeats = Repeats()
        self._held: list[Piece] = []  # of a call that may still repeat an earlier one
        self._repeated = False

    @property
    def stopped(self) -> bool:
        return self._stop.reached is not None or self._repeated

    @property
    def stop_string(self) -> str | None:
        return self._stop.reached

    @property
    def whole_calls(self) -> bool:
        within = self._read == self._read_arguments and not self._held
        return self._repeats.ended > 0 and not within

    def push(self, event: TextEvent) -> list[Piece]:
        """The pieces that this text makes visible."""
        self._text += event.text
        self._tokens += event.tokens
        pieces: list[Piece] = []
        while not self.stopped:
            before = (self._read, self._text)
            pieces += self._read()
            if (self._read, self._text) == before:
                break
        return self._with_tokens(pieces)

    def flush(self) -> list[Piece]:
        """The rest, when no text follows."""
        if self.stopped or not self._has_words or self._read != self._read_words:
            return []
        return self._with_tokens(list(self._words(self._text, last=True)))

    def _read_words(self) -> Iterator[Piece]:
        words, marker, rest = self._text.partition(OPEN)
        if marker:
            self._text, self._read = rest, self._read_head
            yield from self._words(words, last=True)
        else:
            keep = held_back(words, (OPEN,))
            words, self._text = words[: len(words) - keep], words[len(words) - keep :]
            yield from self._words(words, last=False)

    def _words(self, words: str, *, last: bool) -> Iterator[Piece]:
        shown = self._stop.push(words, last=last)
        if shown:
            yield TextEvent(shown)

    def _read_head(self) -> Iterator[Piece]:
        head = _HEAD.match(self._text)
        if head is not None:
            self._text, self._read = self._text[head.end() :], self._read_arguments
            self._arguments = _ArgumentsEnd()
            self._repeats.begin(head[1])
            new_id = f"call_{secrets.token_hex(12)}"
            yield from self._unless_repeated(ToolCallEvent(self._repeats.ended, "", new_id, head[1]))

    def _read_arguments(self) -> Iterator[Piece]:
        end = self._arguments.find(self._text)
        piece = self._text if end is None else self._text[:end]
        self._text = self._text[len(piece) :]
        if piece:
            self._repeats.add(piece)
            yield from self._unless_repeated(ToolCallEvent(self._repeats.ended, piece))
        if end is not None and self._held:
            self._repeated = True
        elif end is not None:
            self._repeats.end()
            self._read = self._read_tail

    def _unless_repeated(self, piece: ToolCallEvent) -> Iterator[Piece]:
        """This piece of a call, after those that waited for it."""
        self._held.append(piece)
        if not self._repeats.possible:
            yield from self._held
            self._held = []

    def _read_tail(self) -> Iterator[Piece]:
        """The end of one call, and the beginning of the next one."""
        between = f"{CALL_TAIL}\n{OPEN}"
        if self._text.startswith(between):
            self._text, self._read = self._text[len(between) :], self._read_head
        return iter(())

    def _with_tokens(self, pieces: list[Piece]) -> list[Piece]:
        """The same pieces; the first one gets the tokens since the last piece."""
        if pieces:
            first, tokens = pieces[0], tuple(self._tokens)
            self._tokens = []
            if isinstance(first, TextEvent):
                pieces[0] = TextEvent(first.text, tokens)
            else:
                pieces[0] = ToolCallEvent(first.index, first.arguments, first.id, first.name, tokens)
        return pieces


class _ArgumentsEnd:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def find(self, piece: str) -> int | None:
        """The length of the part of this piece that belongs to the object; None if the object does not end in it."""
        for at, character in enumerate(piece):
            if self._in_string:
                self._in_string = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at + 1
        return None


def piece_text(piece: Piece) -> str:
    """The piece as the log shows it: of a call, its function's name and its arguments."""
    if isinstance(piece, TextEvent):
        return piece.text
    return piece.arguments if piece.name is None else f"\n{OPEN} {piece.name} "
