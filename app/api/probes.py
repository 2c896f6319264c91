"""The probes for orchestrators, and the metrics for Prometheus. A full queue fails no probe: a restart would not
help."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from app.api.http.error_response import retry_after
from app.contract.engine import Phase
from app.contract.errors import NotReady
from app.contract.readiness import loss, refusal
from app.serving.protocol import Service

Render = Callable[[str], tuple[bytes, str]]
"""Prometheus' exposition for an Accept header: body and content type."""


class Alive(TypedDict):
    status: Literal["alive"]
    phase: str


class Ready(TypedDict):
    status: Literal["ready"]
    model: str


class Startup(TypedDict):
    status: Literal["started", "starting"]
    phase: str
    progress: Annotated[float, Field(description="From 0 to 1 within the phase.")]
    elapsed: Annotated[float, Field(description="Seconds since the start.")]
    detail: str


class Unready(TypedDict):
    status: Annotated[str, Field(description="The code of the error that a request would get now.")]
    reason: str


PUBLIC_PATHS = frozenset({"/livez", "/readyz", "/health", "/startupz", "/metrics"})
"""Public paths, because orchestrators have no key. nginx publishes the probes, but not the metrics, which are
reachable at the app's own port only."""


def probes_router(service: Service, render_metrics: Render | None) -> APIRouter:
    router = APIRouter()
    ready_once = False

    @router.api_route("/livez", methods=["GET", "HEAD"])
    async def live() -> Response:
        status = service.status()
        error = loss(status)
        return _refuse(error) if error else _say(200, Alive(status="alive", phase=status.phase))

    @router.api_route("/readyz", methods=["GET", "HEAD"])
    @router.api_route("/health", methods=["GET", "HEAD"])
    async def ready() -> Response:
        error = refusal(service.status())
        return _refuse(error) if error else _say(200, Ready(status="ready", model=service.model.name))

    @router.api_route("/startupz", methods=["GET", "HEAD"])
    async def started() -> Response:
        nonlocal ready_once
        status = service.status()
        ready_once = ready_once or status.phase in (Phase.READY, Phase.DRAINING)
        body: Startup = {
            "status": "started" if ready_once else "starting",
            "phase": status.phase,
            "progress": round(status.progress, 3),
            "elapsed": round(status.elapsed, 3),
            "detail": status.detail,
        }
        return _say(200 if ready_once else 503, body)

    if render_metrics is not None:

        @router.get("/metrics")
        async def metrics(request: Request) -> Response:
            body, content_type = render_metrics(request.headers.get("accept", ""))
            return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})

    return router


def _say(status: int, body: Mapping[str, object]) -> Response:
    return JSONResponse(body, status_code=status, headers={"cache-control": "no-store"})


def _refuse(error: NotReady) -> Response:
    """A 503 with the code and the message of the error."""
    response = _say(error.status, Unready(status=error.code, reason=error.message))
    response.headers.update(retry_after(error))
    return response
