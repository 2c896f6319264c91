"""An answer's pieces as content blocks, and the events that tell of them."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from app.api.anthropic.events import BlockEvent, NewInput, NewText
from app.api.anthropic.objects import ContentBlock
from app.contract.events import Piece, ToolCallEvent


class Blocks:
    """The blocks of one answer, in the order in which they began. The last one may be open: it still grows.

    Each method changes the blocks when the events that it returns are read.
    """

    def __init__(self) -> None:
        self.content: list[ContentBlock] = []
        self._open = False
        self._grown: list[str] = []  # of the open block: its text, or its input as JSON

    def take(self, piece: Piece) -> Iterator[BlockEvent]:
        if isinstance(piece, ToolCallEvent):
            if piece.id is not None:
                yield from self.close()
                yield self._add({"type": "tool_use", "id": piece.id, "name": piece.name or "", "input": {}})
            if piece.arguments:
                yield self._grow(piece.arguments, {"type": "input_json_delta", "partial_json": piece.arguments})
        elif piece.text:
            if not (self._open and self.content[-1]["type"] == "text"):
                yield from self.close()
                yield self._add({"type": "text", "text": ""})
            yield self._grow(piece.text, {"type": "text_delta", "text": piece.text})

    def close(self) -> Iterator[BlockEvent]:
        """Ends the open block, if there is one."""
        if not self._open:
            return
        self._open = False
        block, whole = self.content[-1], "".join(self._grown)
        if block["type"] == "text":
            block["text"] = whole
        else:
            block["input"] = input_of(whole)
        yield {"type": "content_block_stop", "index": self._index}

    def add_empty_text(self) -> Iterator[BlockEvent]:
        """For an answer without a word: clients look at the first block."""
        yield self._add({"type": "text", "text": ""})

    @property
    def _index(self) -> int:
        return len(self.content) - 1

    def _add(self, block: ContentBlock) -> BlockEvent:
        self.content.append(block)
        self._open, self._grown = True, []
        return {"type": "content_block_start", "index": self._index, "content_block": block}

    def _grow(self, piece: str, delta: NewText | NewInput) -> BlockEvent:
        self._grown.append(piece)
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def input_of(arguments: str) -> dict[str, Any]:
    """The object that a call's arguments are. Of a call that was cut, what Anthropic's own clients read of it.

    Arguments that JSON cannot write again, such as 1e999 or half of a surrogate pair, are kept as text.
    """
    try:
        value = from_json(arguments, allow_partial=True) if arguments.strip() else {}
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"unparsed": arguments}
