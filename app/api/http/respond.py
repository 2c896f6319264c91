"""The response of a route whose request is handed to the service."""

import logging
from collections.abc import Coroutine

from starlette.requests import Request
from starlette.responses import Response

from app.api.http.disconnect import unless_client_leaves
from app.api.http.error_response import error_response
from app.contract.errors import ServingError

_log = logging.getLogger(__name__)


async def respond(request: Request, work: Coroutine[None, None, Response]) -> Response:
    """The work's response, or its error as one. Cancels the work when the client leaves.

    The service tells the observers how its requests end. So their errors are answered here, and never reach the
    middleware, which would tell the observers again.
    """
    path = request.scope["path"]
    try:
        return await unless_client_leaves(request, work)
    except ServingError as error:
        return error_response(error, path)
    except Exception:  # noqa: BLE001  # as the middleware would: the client gets an answer, the log the traceback
        _log.exception("a request failed in a way that nobody expected")
        return error_response(ServingError(), path)
