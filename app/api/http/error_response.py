"""One of our errors as an HTTP response. Its body, which has the form of one API, comes from outside."""

import logging
import math
from collections.abc import Mapping

from starlette.responses import JSONResponse

from app.contract.errors import ServingError, Unauthorized

_log = logging.getLogger(__name__)


def error_response(
    error: ServingError, body: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    response = JSONResponse(body, status_code=error.status, headers=headers)
    response.headers["cache-control"] = "no-store"
    response.headers.update(retry_after(error))
    if not error.retryable:
        response.headers["x-should-retry"] = "false"  # OpenAI's clients ask again after other errors of the server
    if isinstance(error, Unauthorized):
        response.headers["www-authenticate"] = "Bearer"
    return response


def unexpected_error(error: Exception) -> ServingError:
    """What a client is told of an exception that nobody foresaw. Its traceback goes to the log."""
    _log.error("a request failed with an unexpected exception", exc_info=error)
    return ServingError()


def retry_after(error: ServingError) -> dict[str, str]:
    """The header that says when to ask again, in whole seconds; empty where asking again does not help."""
    return {} if error.retry_after is None else {"retry-after": str(max(1, math.ceil(error.retry_after)))}
