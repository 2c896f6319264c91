"""An answer of `/v1/responses`: whole, or as a stream of events."""

import time
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping

from app.api.http.sse import HEARTBEAT, named_frame
from app.api.openai.header import counts
from app.api.responses.body import ResponseBody
from app.api.responses.events import Changed, ResponseChanged, ResponseEvent
from app.api.responses.items import OutputItems
from app.api.responses.objects import ResponseFailure, ResponseObject, ResponseUsage
from app.api.responses.tool_fields import FlatToolFields
from app.contract.errors import ServingError
from app.contract.events import Finished, FinishReason, Usage
from app.contract.requests import GenerationRequest, ToolChoice
from app.serving.choices import Choices


class ResponseOutput:
    """Writes one answer, once."""

    heartbeat = HEARTBEAT

    def __init__(self, body: ResponseBody, generation: GenerationRequest, model: str) -> None:
        self._response = _begun(body, generation, model)
        self._items = OutputItems()

    async def whole(self, choices: Choices) -> Mapping[str, object]:
        """Raises the error that the answer ended with."""
        async for _, event in choices:
            if not isinstance(event, Finished):
                _read(self._items.take(event))
            elif event.failure is not None:
                raise event.failure
            else:
                _read(self._end(event))
        return self._response

    async def frames(self, choices: Choices) -> AsyncGenerator[str, None]:
        """An answer that fails midway ends with `response.failed`, and keeps what there was."""
        yield _frame(self._changed("response.created"))
        yield _frame(self._changed("response.in_progress"))
        async for _, event in choices:
            for told in self._end(event) if isinstance(event, Finished) else self._items.take(event):
                yield _frame(told)

    def _end(self, finished: Finished) -> Iterable[ResponseEvent]:
        cut = finished.failure is not None or finished.reason is FinishReason.LENGTH
        if not self._items.items and not finished.failure:
            yield from self._items.add_empty_message()
        yield from self._items.close("incomplete" if cut else "completed")
        response = self._response
        response["output"] = self._items.items
        response["usage"] = _usage(finished.usage)
        response["timings"] = counts(finished.usage, finished.timings, 1)["timings"]
        if finished.error is not None:
            response["error"] = _failure(finished.error)
        if finished.failure is not None:
            response["status"] = "failed"
            yield self._changed("response.failed")
        elif cut:
            response["status"] = "incomplete"
            response["incomplete_details"] = {"reason": "max_output_tokens"}
            yield self._changed("response.incomplete")
        else:
            response["status"] = "completed"
            response["completed_at"] = int(time.time())
            yield self._changed("response.completed")

    def _changed(self, kind: Changed) -> ResponseChanged:
        return {"type": kind, "sequence_number": next(self._items.numbers), "response": self._response}


def _read(events: Iterable[ResponseEvent]) -> None:
    """For what they do to the items."""
    for _ in events:
        pass


def _frame(event: ResponseEvent) -> str:
    return named_frame(event["type"], event)


def _begun(body: ResponseBody, generation: GenerationRequest, model: str) -> ResponseObject:
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": body.max_tool_calls,
        "metadata": body.metadata,
        "model": model,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls,
        "previous_response_id": None,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": False,
        "temperature": generation.sampling.temperature,
        "text": _text(body),
        "tool_choice": _tool_choice(body.tool_choice),
        "tools": [_tool(tool) for tool in body.tools],
        "top_logprobs": 0,
        "top_p": generation.sampling.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }


def _text(body: ResponseBody) -> dict[str, object]:
    """The format as it was sent: it is in words of this API already."""
    if body.text.format is None:
        return {"format": {"type": "text"}, "verbosity": "medium"}
    sent = body.text.format.model_dump(by_alias=True, exclude_unset=True)
    return {"format": sent, "verbosity": "medium"}


def _tool(tool: FlatToolFields) -> dict[str, object]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }


def _tool_choice(choice: ToolChoice) -> str | dict[str, str]:
    return choice.mode if choice.name is None else {"type": "function", "name": choice.name}


def _usage(usage: Usage) -> ResponseUsage:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total_tokens,
    }


def _failure(error: ServingError) -> ResponseFailure:
    return {"code": "server_error", "message": error.message, "type": error.code}
