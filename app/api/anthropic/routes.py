"""`/v1/messages`: Anthropic's API for answers, and its count of a request's tokens."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.anthropic.body import NAMES, MessagesBody
from app.api.anthropic.errors import anthropic_error
from app.api.anthropic.objects import TokenCount
from app.api.anthropic.output import MessageOutput
from app.api.http.disconnect import unless_client_leaves
from app.api.http.read_json import read_json
from app.api.http.respond import respond
from app.api.openai.answer import answer
from app.api.openai.bodies.turns import in_words_of_client
from app.contract.errors import ServingError
from app.contract.requests import GenerationRequest
from app.serving.protocol import Service
from app.serving.tokenizing import Tokenizing


def messages_router(service: Service, tokenization: Tokenizing) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/messages")
    async def answer_messages(request: Request) -> Response:
        generation = await _generation(request)
        output = MessageOutput(generation, service.model.name)

        def error_body(error: ServingError) -> Mapping[str, object]:
            return anthropic_error(in_words_of_client(error, NAMES), generation.id)

        return await respond(request, answer(service, [generation], output), error_body)

    @router.post("/v1/messages/count_tokens")
    async def count_tokens(request: Request) -> Response:
        generation = await _generation(request)
        rendered = await unless_client_leaves(request, tokenization.of_conversation(generation))
        return JSONResponse(TokenCount(input_tokens=len(rendered.tokens)))

    async def _generation(request: Request) -> GenerationRequest:
        def convert(value: dict[str, Any]) -> GenerationRequest:
            return MessagesBody.parse(value).generation(request.state.request_id, request.state.tenant, service.model)

        return await read_json(request, convert)

    return router
