"""`/v1/completions`: texts that go on, as OpenAI's older clients, IDEs and load generators ask for them."""

import asyncio
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
from app.api.openai.logprobs import BytesOf, LegacyLogprobs
from app.api.openai.shapes import Heads
from app.contract.messages import Finished, Piece, TextEvent
from app.serving.service import GenerationService


def completions_router(service: GenerationService) -> APIRouter:
    router = APIRouter()
    heads = Heads("cmpl", service.model)

    @router.post("/v1/completions")
    async def complete(request: Request) -> Response:
        body = CompletionBody.parse(await read_json(request))
        generations = body.generations(request.state.request_id, request.state.tenant, service.model)
        echoes = await asyncio.to_thread(_echoes, body, service.token_bytes) if body.echo else []
        writer = CompletionWriter(echoes, service.token_bytes if body.logprobs is not None else None)
        output = Output(heads.new(), writer, body.n, body.stream_options or StreamOptions())
        return await respond(request, answer(service, generations, output))

    return router


def _echoes(body: CompletionBody, bytes_of: BytesOf) -> list[str]:
    """What stands before each choice. A long list of ids takes a while."""
    return [text for prompt in body.prompt for text in [_as_text(prompt, bytes_of)] * body.n]


def _as_text(prompt: RawPrompt, bytes_of: BytesOf) -> str:
    return prompt if isinstance(prompt, str) else b"".join(map(bytes_of, prompt)).decode(errors="replace")


class CompletionWriter:
    """`echoes` holds what stands before each choice, if anything shall. `bytes_of` tells what a token stands for;
    None when no log-probabilities are wanted."""

    kind = "text_completion"
    chunk_kind = "text_completion"

    def __init__(self, echoes: Sequence[str], bytes_of: BytesOf | None) -> None:
        self._echoes = echoes
        self._bytes_of = bytes_of
        self._logprobs: dict[int, LegacyLogprobs] = {}

    def whole(self, index: int, pieces: Sequence[Piece], finished: Finished) -> dict[str, Any]:
        texts = [piece for piece in pieces if isinstance(piece, TextEvent)]
        echo = self._echoes[index] if self._echoes else ""
        text = echo + "".join(piece.text for piece in texts)
        choice = self._choice(index, text, texts, finished.reason)
        if self._bytes_of is not None and not texts:
            choice["logprobs"] = LegacyLogprobs(self._bytes_of).of([])
        return choice

    def first(self, index: int) -> dict[str, Any] | None:
        return self._choice(index, self._echoes[index], []) if self._echoes else None

    def piece(self, index: int, piece: Piece) -> dict[str, Any]:
        texts = [piece] if isinstance(piece, TextEvent) else []  # no tools are asked for here
        return self._choice(index, "".join(text.text for text in texts), texts)

    def last(self, index: int, finished: Finished) -> dict[str, Any]:
        return self._choice(index, "", [], finished.reason)

    def _choice(
        self, index: int, text: str, texts: Sequence[TextEvent], finish_reason: str | None = None
    ) -> dict[str, Any]:
        logprobs = None
        if self._bytes_of is not None and texts:
            logprobs = self._logprobs.setdefault(index, LegacyLogprobs(self._bytes_of)).of(texts)
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
