"""`/v1/models`: the one model that is served, by each of its names."""

import time

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.api.openai.bodies.model_field import no_such_model
from app.api.openai.responses import Model, ModelList
from app.serving.protocol import Service


def models_router(service: Service) -> APIRouter:
    router = APIRouter()
    started_at = int(time.time())

    def model(name: str) -> Model:
        """OpenAI's form, and `max_model_len` as vLLM has it: the most tokens of a prompt and its answer together."""
        listed: Model = {"id": name, "object": "model", "created": started_at, "owned_by": "local"}
        if service.context:
            listed["max_model_len"] = service.context
        return listed

    @router.get("/v1/models")
    async def every_model() -> Response:
        names = (service.model.name, *service.model.other_names)
        return JSONResponse(ModelList(object="list", data=[model(name) for name in names]))

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        known = service.model.known_as(name)
        if known is None:
            raise no_such_model(service.model)
        return JSONResponse(model(known))

    return router
