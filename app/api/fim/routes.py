"""`/v1/fim/completions`: what belongs into a gap, for the editors that speak Mistral's API."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.fim.body import FimBody
from app.api.http.read_json import read_json
from app.api.http.respond import respond
from app.api.openai.answer import Output, answer
from app.api.openai.bodies.sampling_fields import StreamOptions
from app.api.openai.chat import ChatWriter
from app.api.openai.errors import openai_error
from app.api.openai.header import HeaderFactory
from app.contract.requests import GenerationRequest
from app.serving.protocol import Service


def fim_router(service: Service) -> APIRouter:
    router = APIRouter()
    headers = HeaderFactory("fim")

    @router.post("/v1/fim/completions")
    async def fill(request: Request) -> Response:
        """The answer has the form of a chat's."""

        def convert(value: dict[str, Any]) -> tuple[FimBody, GenerationRequest]:
            body = FimBody.parse(value)
            return body, body.generation(request.state.request_id, request.state.tenant, service.model)

        body, generation = await read_json(request, convert)
        output = Output(headers.new(service.model), ChatWriter(None), body.n, body.stream_options or StreamOptions())
        return await respond(request, answer(service, [generation], output), openai_error)

    return router
