"""An error's response, as the app wires it."""

from starlette.responses import JSONResponse

from app.api.error_forms import error_body
from app.api.http.error_response import error_response
from app.contract.errors import ServingError


def response_to(error: ServingError, path: str, request_id: str = "r-1") -> JSONResponse:
    return error_response(error, error_body(error, path, request_id))
