"""`/openapi.json`."""

import asyncio
import functools

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.api.openapi.document import openapi_document
from app.serving.protocol import Service

OPENAPI = "/openapi.json"


def openapi_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get(OPENAPI)
    async def openapi() -> Response:
        document = await asyncio.to_thread(_rendered, service.model.name)
        return Response(document, media_type="application/json")

    return router


@functools.cache
def _rendered(model: str) -> bytes:
    """The document, made once in a process: it takes longer than the rest of an app."""
    return bytes(JSONResponse(openapi_document(model)).body)
