"""From the text and calls of another server to the pieces that a client gets."""

import json
from collections.abc import Sequence

from app.contract.events import Piece, TextEvent
from app.contract.requests import GenerationRequest
from app.remote.answer_reader import NewText
from app.serving.parser import PlainParser


class RemoteOutput:
    """Belongs to one answer. Stop strings are looked for here too: then it is known which one ended the answer, and
    limits of lines are kept, which other servers do not have."""

    def __init__(self, request: GenerationRequest) -> None:
        self._parser = PlainParser(request.stop, request.lines)
        self._calls: dict[int, list[str]] = {}  # the pieces of each call's arguments

    @property
    def stopped(self) -> bool:
        return self._parser.stopped

    @property
    def stop_string(self) -> str | None:
        return self._parser.stop_string

    @property
    def whole_calls(self) -> bool:
        return bool(self._calls) and all(_is_object("".join(pieces)) for pieces in self._calls.values())

    def push(self, event: NewText) -> Sequence[Piece]:
        pieces: list[Piece] = []
        if event.text or event.tokens:
            pieces += self._parser.push(TextEvent(event.text, event.tokens))
        if event.calls:
            pieces += self._parser.flush()  # a stop string does not reach into a call
        for call in event.calls:
            self._calls.setdefault(call.index, []).append(call.arguments)
            pieces.append(call)
        return pieces

    def flush(self) -> Sequence[Piece]:
        return self._parser.flush()


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
