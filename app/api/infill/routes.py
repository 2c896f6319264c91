"""`/infill`: what belongs into a gap, for the editors that speak llama.cpp's API."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.http.read_json import read_json
from app.api.http.respond import respond
from app.api.infill.body import NAMES, InfillBody
from app.api.infill.output import InfillOutput
from app.api.openai.answer import answer
from app.api.openai.bodies.turns import in_words_of_client
from app.api.openai.errors import openai_error
from app.contract.errors import ServingError
from app.contract.requests import GenerationRequest
from app.serving.protocol import Service


def infill_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/infill")
    async def fill(request: Request) -> Response:
        def convert(value: dict[str, Any]) -> tuple[InfillBody, GenerationRequest]:
            body = InfillBody.parse(value)
            return body, body.generation(request.state.request_id, request.state.tenant, service.model)

        body, generation = await read_json(request, convert)
        output = InfillOutput(service.model.name, body.response_fields)
        return await respond(request, answer(service, [generation], output), _error)

    return router


def _error(error: ServingError) -> Mapping[str, object]:
    return openai_error(in_words_of_client(error, NAMES))
