"""The bodies of the responses of `POST /`: what the route writes, and what `/openapi.json` describes.

Every answer and every error is a JSON object with `status` and `time`.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.contract.errors import ServingError

Time = Annotated[str, Field(description="Local time of the server, `YYYY-MM-DD HH:MM:SS`.")]


class ClassicAnswer(TypedDict):
    response: str
    history: Annotated[
        list[list[str]],
        Field(description="The history that was sent, and the new pair. It can be sent as the next history."),
    ]
    status: Literal[200]
    time: Time


class ClassicDelta(TypedDict):
    delta: str


class ClassicErrorDetail(TypedDict):
    code: str
    message: str


class ClassicError(TypedDict):
    status: Annotated[int, Field(description="The HTTP status again.")]
    error: ClassicErrorDetail
    time: Time


def classic_answer(response: str, history: list[list[str]]) -> ClassicAnswer:
    return {"response": response, "history": history, "status": 200, "time": _now()}


def classic_error(error: ServingError) -> ClassicError:
    return {"status": error.status, "error": {"code": error.code, "message": error.message}, "time": _now()}


def _now() -> str:
    """Local time, as the old script wrote it."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
