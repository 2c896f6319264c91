"""`/v1/chat/completions`: answers to conversations."""

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
from app.api.openai.errors import error_detail, openai_error
from app.api.openai.header import HeaderFactory
from app.api.openai.logprobs import BytesOf, chat_logprobs
from app.api.openai.responses import (
    AnswerMessage,
    ChatChoice,
    ChatChunkChoice,
    ChatCompletion,
    ChatCompletionChunk,
    ChatLogprobs,
    Counts,
    Delta,
    Header,
)
from app.api.openai.tool_calls import call_piece, whole_calls
from app.contract.events import Finished, FinishReason, Piece, TextEvent, ToolCallEvent
from app.contract.requests import GenerationRequest
from app.serving.protocol import Service


def chat_router(service: Service) -> APIRouter:
    router = APIRouter()
    headers = HeaderFactory("chatcmpl")

    @router.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        def convert(value: dict[str, Any]) -> tuple[ChatBody, GenerationRequest]:
            body = ChatBody.parse(value)
            return body, body.generation(request.state.request_id, request.state.tenant, service.model)

        body, generation = await read_json(request, convert)
        writer = ChatWriter(service.token_bytes if body.logprobs else None)
        output = Output(headers.new(service.model), writer, body.n, body.stream_options or StreamOptions())
        return await respond(request, answer(service, [generation], output), openai_error)

    return router


class ChatWriter:
    """`bytes_of` gives the bytes of a token; None when no log-probabilities are wanted."""

    def __init__(self, bytes_of: BytesOf | None) -> None:
        self._bytes_of = bytes_of

    def whole(self, index: int, pieces: Sequence[Piece], finished: Finished) -> ChatChoice:
        texts = [piece for piece in pieces if isinstance(piece, TextEvent)]
        calls = whole_calls(piece for piece in pieces if isinstance(piece, ToolCallEvent))
        content = "".join(text.text for text in texts)
        message: AnswerMessage = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            message["content"] = content or None
            message["tool_calls"] = calls
        choice: ChatChoice = {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(texts),
            "finish_reason": finished.reason,
        }
        if finished.stop is not None:
            choice["stop_reason"] = finished.stop
        if finished.error is not None:
            choice["error"] = error_detail(finished.error)
        return choice

    def first(self, index: int) -> ChatChunkChoice:
        return _chunk_choice(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, piece: Piece) -> ChatChunkChoice:
        if isinstance(piece, ToolCallEvent):
            return _chunk_choice(index, {"tool_calls": [call_piece(piece)]})
        return _chunk_choice(index, {"content": piece.text}, self._logprobs([piece]))

    def last(self, index: int, finished: Finished) -> ChatChunkChoice:
        choice = _chunk_choice(index, {}, finish_reason=finished.reason)
        if finished.stop is not None:
            choice["stop_reason"] = finished.stop
        if finished.error is not None:
            choice["error"] = error_detail(finished.error)
        return choice

    def completion(self, header: Header, choices: list[ChatChoice], end: Counts) -> ChatCompletion:
        return {**header, "object": "chat.completion", "choices": choices, **end}

    def chunk(self, header: Header, choices: list[ChatChunkChoice]) -> ChatCompletionChunk:
        return {
            "id": header["id"],
            "object": "chat.completion.chunk",
            "created": header["created"],
            "model": header["model"],
            "system_fingerprint": header["system_fingerprint"],
            "choices": choices,
        }

    def _logprobs(self, texts: Sequence[TextEvent]) -> ChatLogprobs | None:
        return None if self._bytes_of is None else chat_logprobs(texts, self._bytes_of)


def _chunk_choice(
    index: int, delta: Delta, logprobs: ChatLogprobs | None = None, finish_reason: FinishReason | None = None
) -> ChatChunkChoice:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
