"""`POST /`: the contract of the script that this project replaces. Its clients work unchanged."""

import secrets
from collections.abc import AsyncGenerator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.api.classic.body import ClassicBody
from app.api.classic.responses import ClassicAnswer, ClassicDelta, classic_answer, classic_error
from app.api.http.read_json import read_json
from app.api.http.respond import respond
from app.api.http.sse import EventStream, frame
from app.contract.errors import ServingError
from app.contract.events import Finished, TextEvent
from app.contract.requests import GenerationRequest, Message, Operation, SamplingParams
from app.serving.choices import Choices
from app.serving.protocol import Service


def classic_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.post("/")
    async def answer(request: Request) -> Response:
        body = await read_json(request, ClassicBody.parse)
        generation = generation_request(body, request.state.request_id, request.state.tenant)
        return await respond(request, _response(service, generation, body), classic_error)

    return router


def generation_request(body: ClassicBody, request_id: str, tenant: str) -> GenerationRequest:
    messages = []
    for question, answer in body.history:
        messages += [Message("user", question), Message("assistant", answer)]
    return GenerationRequest(
        id=request_id,
        operation=Operation.CHAT,
        messages=(*messages, Message("user", body.prompt)),
        max_tokens=body.max_length,
        stream=body.stream,
        tenant=tenant,
        sampling=SamplingParams(
            seed=secrets.randbits(63) if body.seed in (None, -1) else body.seed,
            temperature=body.temperature,
            top_k=body.top_k,
            top_p=body.top_p,
            repetition_penalty=body.repetition_penalty,
        ),
    )


async def _response(service: Service, generation: GenerationRequest, body: ClassicBody) -> Response:
    choices = await service.open(generation)
    if body.stream:
        return EventStream(choices, _frames(choices, body))
    return await _whole(choices, body)


async def _whole(choices: Choices, body: ClassicBody) -> Response:
    text: list[str] = []
    cut_by: ServingError | None = None
    async with choices:
        async for _, event in choices:
            if isinstance(event, TextEvent):
                text.append(event.text)
            elif isinstance(event, Finished):
                if event.failure is not None:
                    raise event.failure
                cut_by = event.error
    return JSONResponse(_answer(body, "".join(text), cut_by))


async def _frames(choices: Choices, body: ClassicBody) -> AsyncGenerator[str, None]:
    text: list[str] = []
    async for _, event in choices:
        if isinstance(event, TextEvent):
            text.append(event.text)
            yield frame(ClassicDelta(delta=event.text))
        elif isinstance(event, Finished):
            failure = event.failure
            yield frame(classic_error(failure) if failure else _answer(body, "".join(text), event.error))


def _answer(body: ClassicBody, response: str, cut_by: ServingError | None) -> ClassicAnswer:
    return classic_answer(response, [*body.history, [body.prompt, response]], cut_by)
