"""`/v1/models`: the one model that is served."""

import time

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.api.openai.bodies.model_field import no_such_model
from app.api.openai.responses import Model, ModelList
from app.serving.service import GenerationService


def models_router(service: GenerationService) -> APIRouter:
    router = APIRouter()
    started_at = int(time.time())

    def model() -> Model:
        """OpenAI's form, and `max_model_len` as vLLM has it: the most tokens of a prompt and its answer together."""
        return {
            "id": service.model.name,
            "object": "model",
            "created": started_at,
            "owned_by": "local",
            "max_model_len": service.context,
        }

    @router.get("/v1/models")
    async def every_model() -> Response:
        return JSONResponse(ModelList(object="list", data=[model()]))

    @router.get("/v1/models/{name:path}")
    async def one_model(name: str) -> Response:
        if name != service.model.name:
            raise no_such_model(service.model)
        return JSONResponse(model())

    return router
