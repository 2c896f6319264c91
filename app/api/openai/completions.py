"""`/v1/completions`: continuations of texts, for OpenAI's older clients, IDEs and load generators."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.http.read_json import read_json
from app.api.http.respond import respond
from app.api.openai.answer import Output, answer
from app.api.openai.bodies.completion import CompletionBody, RawPrompt
from app.api.openai.bodies.sampling_fields import StreamOptions
from app.api.openai.errors import error_detail, openai_error
from app.api.openai.header import HeaderFactory
from app.api.openai.logprobs import BytesOf, LegacyLogprobs
from app.api.openai.responses import (
    Counts,
    Header,
    TextChoice,
    TextChunkChoice,
    TextCompletion,
    TextCompletionChunk,
    TextLogprobs,
)
from app.contract.events import Finished, FinishReason, Piece, TextEvent
from app.contract.requests import GenerationRequest
from app.serving.protocol import Service
from app.work_pool import WorkPool


def completions_router(service: Service) -> APIRouter:
    router = APIRouter()
    headers = HeaderFactory("cmpl")

    @router.post("/v1/completions")
    async def complete(request: Request) -> Response:
        def convert(value: dict[str, Any]) -> tuple[CompletionBody, list[GenerationRequest]]:
            body = CompletionBody.parse(value)
            return body, body.generations(request.state.request_id, request.state.tenant, service.model)

        body, generations = await read_json(request, convert)
        echoes: list[str] = []
        if body.echo and body.logprobs is None:  # with logprobs the answer itself begins with the prompt
            threads: WorkPool = request.app.state.body_threads
            echoes = await threads.run(request.state.tenant, _echoes, body, service.token_bytes)
        writer = CompletionWriter(echoes, service.token_bytes if body.logprobs is not None else None)
        output = Output(headers.new(service.model), writer, body.n, body.stream_options or StreamOptions())
        return await respond(request, answer(service, generations, output), openai_error)

    return router


def _echoes(body: CompletionBody, bytes_of: BytesOf) -> list[str]:
    """The prompt before each choice. A long list of ids takes a while."""
    return [text for prompt in body.prompt for text in [_as_text(prompt, bytes_of)] * body.n]


def _as_text(prompt: RawPrompt, bytes_of: BytesOf) -> str:
    return prompt if isinstance(prompt, str) else b"".join(map(bytes_of, prompt)).decode(errors="replace")


class CompletionWriter:
    """`echoes` are the prompts before each choice, empty where none is to be added. `bytes_of` gives the bytes of a
    token; None when no log-probabilities are wanted."""

    def __init__(self, echoes: Sequence[str], bytes_of: BytesOf | None) -> None:
        self._echoes = echoes
        self._bytes_of = bytes_of
        self._logprobs: dict[int, LegacyLogprobs] = {}

    def whole(self, index: int, pieces: Sequence[Piece], finished: Finished) -> TextChoice:
        texts = [piece for piece in pieces if isinstance(piece, TextEvent)]
        echo = self._echoes[index] if self._echoes else ""
        choice: TextChoice = {
            "index": index,
            "text": echo + "".join(piece.text for piece in texts),
            "logprobs": None if self._bytes_of is None else LegacyLogprobs(self._bytes_of).of(texts),
            "finish_reason": finished.reason,
        }
        if finished.stop is not None:
            choice["stop_reason"] = finished.stop
        if finished.error is not None:
            choice["error"] = error_detail(finished.error)
        return choice

    def first(self, index: int) -> TextChunkChoice | None:
        return _chunk_choice(index, self._echoes[index]) if self._echoes else None

    def piece(self, index: int, piece: Piece) -> TextChunkChoice:
        if not isinstance(piece, TextEvent):  # this route offers no tools
            return _chunk_choice(index, "")
        if self._bytes_of is None:
            return _chunk_choice(index, piece.text)
        logprobs = self._logprobs.setdefault(index, LegacyLogprobs(self._bytes_of))
        return _chunk_choice(index, piece.text, logprobs.of([piece]))

    def last(self, index: int, finished: Finished) -> TextChunkChoice:
        choice = _chunk_choice(index, "", finish_reason=finished.reason)
        if finished.stop is not None:
            choice["stop_reason"] = finished.stop
        if finished.error is not None:
            choice["error"] = error_detail(finished.error)
        return choice

    def completion(self, header: Header, choices: list[TextChoice], end: Counts) -> TextCompletion:
        return {**header, "object": "text_completion", "choices": choices, **end}

    def chunk(self, header: Header, choices: list[TextChunkChoice]) -> TextCompletionChunk:
        return {
            "id": header["id"],
            "object": "text_completion",
            "created": header["created"],
            "model": header["model"],
            "system_fingerprint": header["system_fingerprint"],
            "choices": choices,
        }


def _chunk_choice(
    index: int, text: str, logprobs: TextLogprobs | None = None, finish_reason: FinishReason | None = None
) -> TextChunkChoice:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
