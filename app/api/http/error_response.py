"""One of our errors as an HTTP response, in the form that the clients of its path expect."""

import math
from collections.abc import Mapping

from starlette.responses import JSONResponse

from app.api.classic.responses import classic_error
from app.api.openai.errors import is_openai_path, openai_error
from app.contract.errors import ServingError, Unauthorized


def error_response(error: ServingError, path: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    body = openai_error(error) if is_openai_path(path) else classic_error(error)
    response = JSONResponse(body, status_code=error.status, headers=headers)
    response.headers["cache-control"] = "no-store"
    response.headers.update(retry_after(error))
    if isinstance(error, Unauthorized):
        response.headers["www-authenticate"] = "Bearer"
    return response


def retry_after(error: ServingError) -> dict[str, str]:
    """The header that says when to ask again, in whole seconds; empty where asking again does not help."""
    return {} if error.retry_after is None else {"retry-after": str(max(1, math.ceil(error.retry_after)))}
