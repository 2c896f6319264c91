"""The response of a route that passes its request on to the service."""

from collections.abc import Callable, Coroutine, Mapping

from starlette.requests import Request
from starlette.responses import Response

from app.api.http.disconnect import unless_client_leaves
from app.api.http.error_response import error_response, unexpected_error
from app.contract.errors import ServingError


async def respond(
    request: Request,
    work: Coroutine[None, None, Response],
    error_body: Callable[[ServingError], Mapping[str, object]],
) -> Response:
    """The work's response, or the response for its error. Cancels the work when the client disconnects.

    The service reports how its requests end. So their errors are answered here and do not reach the middleware, which
    would report them again.
    """
    try:
        return await unless_client_leaves(request, work)
    except ServingError as error:
        refusal = error
    except Exception as error:  # noqa: BLE001  # as in the middleware: the client must get a response
        refusal = unexpected_error(error)
    return error_response(refusal, error_body(refusal))
