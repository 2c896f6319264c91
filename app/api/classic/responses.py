"""The bodies of the responses of `POST /`: what the route writes, and what `/openapi.json` describes.

Every answer and every error is a JSON object with `status` and `time`.
"""

from datetime import datetime
from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from app.contract.errors import ServingError

Time = Annotated[str, Field(description="Local time of the server, `YYYY-MM-DD HH:MM:SS`.")]


class ClassicErrorDetail(TypedDict):
    code: str
    message: str


class ClassicAnswer(TypedDict):
    response: str
    history: Annotated[
        list[list[str]],
        Field(description="The history that was sent, and the new pair. It can be sent as the next history."),
    ]
    status: Literal[200]
    time: Time
    error: NotRequired[Annotated[ClassicErrorDetail, Field(description="Only where the deadline ended the answer.")]]


class ClassicDelta(TypedDict):
    delta: str


class ClassicError(TypedDict):
    status: Annotated[int, Field(description="The HTTP status again.")]
    error: ClassicErrorDetail
    time: Time


def classic_answer(response: str, history: list[list[str]], cut_by: ServingError | None) -> ClassicAnswer:
    answer: ClassicAnswer = {"response": response, "history": history, "status": 200, "time": _now()}
    if cut_by is not None:
        answer["error"] = _detail(cut_by)
    return answer


def classic_error(error: ServingError) -> ClassicError:
    return {"status": error.status, "error": _detail(error), "time": _now()}


def _detail(error: ServingError) -> ClassicErrorDetail:
    return {"code": error.code, "message": error.message}


def _now() -> str:
    """Local time, as the old script wrote it."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
