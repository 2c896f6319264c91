"""An answer's pieces as output items, and the events that tell of them."""

import itertools
import uuid
from collections.abc import Iterator

from app.api.responses.events import ResponseEvent
from app.api.responses.objects import ItemStatus, OutputItem, OutputMessage, OutputText
from app.contract.events import Piece, ToolCallEvent


class OutputItems:
    """The items of one answer, in the order in which they began. The last one may be open: it still grows.

    Each method changes the items when the events that it returns are read.
    """

    def __init__(self) -> None:
        self.items: list[OutputItem] = []
        self.numbers = itertools.count()  # of the answer's events
        self._open = False

    def take(self, piece: Piece) -> Iterator[ResponseEvent]:
        if isinstance(piece, ToolCallEvent):
            if piece.id is not None:
                yield from self.close("completed")
                yield from self._add_call(piece.id, piece.name or "")
            yield from self._add_arguments(piece.arguments)
        elif piece.text:
            if not (self._open and self.items[-1]["type"] == "message"):
                yield from self.close("completed")
                yield from self._add_message()
            yield from self._add_text(piece.text)

    def close(self, status: ItemStatus) -> Iterator[ResponseEvent]:
        """Ends the open item, if there is one."""
        if not self._open:
            return
        self._open = False
        item = self.items[-1]
        item["status"] = status
        if item["type"] == "message":
            yield from self._text_done(item)
        else:
            yield {
                "type": "response.function_call_arguments.done",
                "sequence_number": next(self.numbers),
                "item_id": item["id"],
                "output_index": self._index,
                "arguments": item["arguments"],
            }
        yield {
            "type": "response.output_item.done",
            "sequence_number": next(self.numbers),
            "output_index": self._index,
            "item": item,
        }

    def add_empty_message(self) -> Iterator[ResponseEvent]:
        """For an answer without a word: clients look for a message."""
        yield from self._add_message()

    @property
    def _index(self) -> int:
        return len(self.items) - 1

    def _add(self, item: OutputItem) -> ResponseEvent:
        self.items.append(item)
        self._open = True
        return {
            "type": "response.output_item.added",
            "sequence_number": next(self.numbers),
            "output_index": self._index,
            "item": item,
        }

    def _add_message(self) -> Iterator[ResponseEvent]:
        message: OutputMessage = {
            "type": "message",
            "id": f"msg_{uuid.uuid4().hex}",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        yield self._add(message)
        part = _part("")
        message["content"].append(part)
        yield {
            "type": "response.content_part.added",
            "sequence_number": next(self.numbers),
            "item_id": message["id"],
            "output_index": self._index,
            "content_index": 0,
            "part": part,
        }

    def _add_text(self, text: str) -> Iterator[ResponseEvent]:
        message = self.items[-1]
        if message["type"] == "message":
            message["content"][0]["text"] += text
            yield {
                "type": "response.output_text.delta",
                "sequence_number": next(self.numbers),
                "item_id": message["id"],
                "output_index": self._index,
                "content_index": 0,
                "delta": text,
                "logprobs": [],
            }

    def _text_done(self, message: OutputMessage) -> Iterator[ResponseEvent]:
        (part,) = message["content"]
        yield {
            "type": "response.output_text.done",
            "sequence_number": next(self.numbers),
            "item_id": message["id"],
            "output_index": self._index,
            "content_index": 0,
            "text": part["text"],
            "logprobs": [],
        }
        yield {
            "type": "response.content_part.done",
            "sequence_number": next(self.numbers),
            "item_id": message["id"],
            "output_index": self._index,
            "content_index": 0,
            "part": part,
        }

    def _add_call(self, call_id: str, name: str) -> Iterator[ResponseEvent]:
        yield self._add(
            {
                "type": "function_call",
                "id": f"fc_{uuid.uuid4().hex}",
                "status": "in_progress",
                "call_id": call_id,
                "name": name,
                "arguments": "",
            }
        )

    def _add_arguments(self, arguments: str) -> Iterator[ResponseEvent]:
        call = self.items[-1]
        if arguments and call["type"] == "function_call":
            call["arguments"] += arguments
            yield {
                "type": "response.function_call_arguments.delta",
                "sequence_number": next(self.numbers),
                "item_id": call["id"],
                "output_index": self._index,
                "delta": arguments,
            }


def _part(text: str) -> OutputText:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
