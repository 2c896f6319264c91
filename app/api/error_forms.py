"""Which form an error has: OpenAI's, Anthropic's or the classic one."""

from collections.abc import Mapping

from app.api.anthropic.errors import anthropic_error, is_anthropic_path
from app.api.classic.responses import classic_error
from app.api.http.sse import frame, named_frame
from app.api.openai.errors import is_openai_path, openai_error
from app.contract.errors import ServingError


def error_body(error: ServingError, path: str, request_id: str) -> Mapping[str, object]:
    """The body of the error's response, in the form that the clients of its path expect."""
    if is_anthropic_path(path):
        return anthropic_error(error, request_id)
    return openai_error(error) if is_openai_path(path) else classic_error(error)


def error_event(error: ServingError, path: str, request_id: str) -> str:
    """The last event of a stream that another process began; the clients of its path take it for an error."""
    body = error_body(error, path, request_id)
    return named_frame("error", body) if is_anthropic_path(path) else frame(body)
