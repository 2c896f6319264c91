"""`GET /` and the files of the page. They are public; the page asks for a key when the API requires one."""

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.api.playground.files import PREFIX, Page
from app.contract.errors import NotFound

PAGE_PATH = "/"

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "dompurify",  # only DOMPurify may turn strings into HTML
}

_HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}

_FOR_EVER = "public, max-age=31536000, immutable"  # addresses contain a digest of the content


def playground_router(page: Page) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.api_route(PAGE_PATH, methods=["GET", "HEAD"])
    async def document(request: Request) -> Response:
        headers = {**_HEADERS, "etag": page.document_etag, "cache-control": "no-cache"}
        if _knows(request, page.document_etag):
            return Response(status_code=304, headers=headers)
        return Response(page.document, media_type="text/html", headers=headers)

    @router.api_route(PAGE_PATH, methods=["DELETE", "OPTIONS", "PATCH", "PUT"])
    async def refuse() -> Response:
        """Two routers share this path, and the framework's own 405 would list the methods of only one."""
        raise HTTPException(405, headers={"Allow": "GET, HEAD, POST"})

    @router.api_route(PREFIX + "{name:path}", methods=["GET", "HEAD"])
    async def file(request: Request) -> Response:
        found = page.files.get(request.scope["path"])
        if found is None:
            raise NotFound
        headers = {
            **_HEADERS,
            "cache-control": _FOR_EVER,
            "content-type": found.media_type,
        }
        return Response(found.content, headers=headers)

    return router


def public_paths(page: Page) -> frozenset[str]:
    return frozenset({PAGE_PATH, *page.files})


def _knows(request: Request, etag: str) -> bool:
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    return etag in known
