"""`/v1/chat/completions`: conversations, as OpenAI's clients have them."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.http.read_json import read_json
from app.api.http.respond import respond
from app.api.openai.answer import Output, answer
from app.api.openai.bodies.chat import ChatBody
from app.api.openai.bodies.sampling_fields import StreamOptions
from app.api.openai.logprobs import BytesOf, chat_logprobs
from app.api.openai.shapes import Heads
from app.api.openai.tool_calls import call_piece, whole_calls
from app.contract.messages import Finished, Piece, TextEvent, ToolCallEvent
from app.serving.service import GenerationService


def chat_router(service: GenerationService) -> APIRouter:
    router = APIRouter()
    heads = Heads("chatcmpl", service.model)

    @router.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        body = ChatBody.parse(await read_json(request))
        generation = body.generation(request.state.request_id, request.state.tenant, service.model)
        writer = ChatWriter(service.token_bytes if body.logprobs else None)
        output = Output(heads.new(), writer, body.n, body.stream_options or StreamOptions())
        return await respond(request, answer(service, [generation], output))

    return router


class ChatWriter:
    """`bytes_of` tells what a token stands for; None when no log-probabilities are wanted."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def __init__(self, bytes_of: BytesOf | None) -> None:
        self._bytes_of = bytes_of

    def whole(self, index: int, pieces: Sequence[Piece], finished: Finished) -> dict[str, Any]:
        texts = [piece for piece in pieces if isinstance(piece, TextEvent)]
        calls = whole_calls(piece for piece in pieces if isinstance(piece, ToolCallEvent))
        content = "".join(text.text for text in texts)
        message: dict[str, Any] = {"role": "assistant", "content": content or None if calls else content}
        message["refusal"] = None
        if calls:
            message["tool_calls"] = calls
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(texts),
            "finish_reason": finished.reason,
        }

    def first(self, index: int) -> dict[str, Any]:
        return _chunk_choice(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, piece: Piece) -> dict[str, Any]:
        if isinstance(piece, ToolCallEvent):
            return _chunk_choice(index, {"tool_calls": [call_piece(piece)]})
        return _chunk_choice(index, {"content": piece.text}, self._logprobs([piece]))

    def last(self, index: int, finished: Finished) -> dict[str, Any]:
        return _chunk_choice(index, {}, finish_reason=finished.reason)

    def _logprobs(self, texts: Sequence[TextEvent]) -> dict[str, Any] | None:
        return None if self._bytes_of is None else chat_logprobs(texts, self._bytes_of)


def _chunk_choice(
    index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
