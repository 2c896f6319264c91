"""An answer of `/v1/messages`: whole, or as a stream of events."""

import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping

from app.api.anthropic.blocks import Blocks
from app.api.anthropic.errors import anthropic_error, error_detail
from app.api.anthropic.events import BlockEvent, MessageDelta, MessageEvent, Ping
from app.api.anthropic.objects import AnswerMessage, MessageUsage, StopReason
from app.api.http.sse import named_frame
from app.contract.events import Finished, FinishReason, Usage
from app.contract.requests import GenerationRequest
from app.serving.choices import Choices

_PING: Ping = {"type": "ping"}


class MessageOutput:
    """Writes one answer, once."""

    heartbeat = named_frame("ping", _PING)

    def __init__(self, generation: GenerationRequest, model: str) -> None:
        self._generation = generation
        self._model = model
        self._blocks = Blocks()

    async def whole(self, choices: Choices) -> Mapping[str, object]:
        """Raises the error that the answer ended with."""
        message = self._begun(choices.usage())
        async for _, event in choices:
            if not isinstance(event, Finished):
                _read(self._blocks.take(event))
            elif event.failure is not None:
                raise event.failure
            else:
                _read(self._close())
                told = self._end(event)
                message["stop_reason"] = told["delta"]["stop_reason"]
                message["stop_sequence"] = told["delta"]["stop_sequence"]
                message["content"] = self._blocks.content
                message["usage"] = told["usage"]
                if "error" in told:
                    message["error"] = told["error"]
        return message

    async def frames(self, choices: Choices) -> AsyncGenerator[str, None]:
        """An answer that fails midway ends with an `error`."""
        yield _frame({"type": "message_start", "message": self._begun(choices.usage())})
        async for _, event in choices:
            if not isinstance(event, Finished):
                for told in self._blocks.take(event):
                    yield _frame(told)
            elif event.failure is not None:
                yield _frame(anthropic_error(event.failure, self._generation.id))
            else:
                for told in self._close():
                    yield _frame(told)
                yield _frame(self._end(event))
                yield _frame({"type": "message_stop"})

    def _begun(self, usage: Usage) -> AnswerMessage:
        return {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": _usage(usage),
        }

    def _close(self) -> Iterable[BlockEvent]:
        if not self._blocks.content:
            yield from self._blocks.add_empty_text()
        yield from self._blocks.close()

    def _end(self, finished: Finished) -> MessageDelta:
        told: MessageDelta = {
            "type": "message_delta",
            "delta": {"stop_reason": self._stop_reason(finished), "stop_sequence": finished.stop},
            "usage": _usage(finished.usage),
        }
        if finished.error is not None:
            told["error"] = error_detail(finished.error)
        return told

    def _stop_reason(self, finished: Finished) -> StopReason:
        if finished.reason is FinishReason.TOOL_CALLS:
            return "tool_use"
        if finished.reason is FinishReason.STOP:
            return "end_turn" if finished.stop is None else "stop_sequence"
        limit = self._generation.max_tokens
        as_asked = limit is not None and finished.usage.completion_tokens >= limit
        return "max_tokens" if as_asked or finished.error is not None else "model_context_window_exceeded"


def _read(events: Iterable[BlockEvent]) -> None:
    """For what they do to the blocks."""
    for _ in events:
        pass


def _frame(event: MessageEvent) -> str:
    return named_frame(event["type"], event)


def _usage(usage: Usage) -> MessageUsage:
    """Anthropic counts cached tokens apart."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }
