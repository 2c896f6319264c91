"""`/openapi.json`."""

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from app.api.openapi.document import openapi_document
from app.serving.service import GenerationService

OPENAPI = "/openapi.json"


def openapi_router(service: GenerationService) -> APIRouter:
    router = APIRouter()
    document = JSONResponse(openapi_document(service.model.name))

    @router.get(OPENAPI)
    async def openapi() -> Response:
        return Response(document.body, media_type="application/json")

    return router
