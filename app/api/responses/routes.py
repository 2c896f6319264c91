"""`/v1/responses`: OpenAI's newer API for answers, without its store."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.http.read_json import read_json
from app.api.http.respond import respond
from app.api.openai.answer import answer
from app.api.openai.bodies.turns import in_words_of_client
from app.api.openai.errors import openai_error
from app.api.responses.body import NAMES, ResponseBody
from app.api.responses.output import ResponseOutput
from app.contract.errors import ServingError
from app.contract.requests import GenerationRequest
from app.serving.protocol import Service


def responses_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/responses")
    async def respond_to(request: Request) -> Response:
        def convert(value: dict[str, Any]) -> tuple[ResponseBody, GenerationRequest]:
            body = ResponseBody.parse(value)
            return body, body.generation(request.state.request_id, request.state.tenant, service.model)

        body, generation = await read_json(request, convert)
        output = ResponseOutput(body, generation, service.model.name)
        return await respond(request, answer(service, [generation], output), _error)

    return router


def _error(error: ServingError) -> Mapping[str, object]:
    return openai_error(in_words_of_client(error, NAMES))
