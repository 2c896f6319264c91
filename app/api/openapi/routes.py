"""`/openapi.json`."""

import functools

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.api.openapi.document import openapi_document
from app.serving.service import GenerationService

OPENAPI = "/openapi.json"


def openapi_router(service: GenerationService) -> APIRouter:
    router = APIRouter()
    document = _rendered(service.model.name)

    @router.get(OPENAPI)
    async def openapi() -> Response:
        return Response(document, media_type="application/json")

    return router


@functools.cache
def _rendered(model: str) -> bytes:
    """The document, made once in a process: it takes longer than the rest of an app."""
    return bytes(JSONResponse(openapi_document(model)).body)
