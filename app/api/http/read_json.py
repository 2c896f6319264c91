"""Reads a JSON body, once and strictly, for every route.

It refuses what parsers read differently and what cannot be written out again: duplicate keys, NaN and infinities,
unpaired surrogates, invalid UTF-8, numbers with thousands of digits, nesting without limit. No message quotes the
body.
"""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from starlette.requests import ClientDisconnect, Request

from app.contract.errors import BodyTimeout, ClientClosed, InvalidRequest, UnsupportedMediaType
from app.work_pool import WorkPool

BODY_SECONDS = 30.0
"""The most time that a body may take to arrive."""

_AT_ONCE = 65_536
"""Bytes that are read on the event loop. A hostile body of 2 MB takes a second, so larger ones go to a thread."""

_LONGEST_NUMBER = 400  # digits; the largest double has 309

Result = TypeVar("Result")


async def read_json(request: Request, convert: Callable[[dict[str, Any]], Result]) -> Result:
    """What `convert` makes of the body's object, on the thread that parsed it.

    Raises UnsupportedMediaType, BodyTimeout, BodyTooLarge, ClientClosed, InvalidRequest, Overloaded, and what
    `convert` raises.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("The body must be JSON and be declared as such: Content-Type: application/json.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("Compressed bodies are not supported: send the body without a Content-Encoding.")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await request.body()
    except TimeoutError:
        raise BodyTimeout(f"The body did not arrive within {BODY_SECONDS:.0f} seconds.") from None
    except ClientDisconnect:
        raise ClientClosed from None
    if len(raw) <= _AT_ONCE:
        return convert(parse_object(raw))
    threads: WorkPool = request.app.state.body_threads
    return await threads.run(request.state.tenant, lambda: convert(parse_object(raw)))


def parse_object(raw: bytes) -> dict[str, Any]:
    """Raises InvalidRequest."""
    try:
        text = raw.decode("utf-8-sig")  # some programs on Windows begin with a byte order mark
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8.") from None
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"The body is not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})."
        ) from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if "\\u" in text:
        _refuse_lone_surrogates(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise InvalidRequest("The body has an object with a duplicate key.")
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise InvalidRequest("The body is not valid JSON: NaN and infinities are not JSON numbers.")


def _float(digits: str) -> float:
    value = float(digits)
    if len(digits) > _LONGEST_NUMBER or math.isinf(value):
        raise InvalidRequest("The body has a number that is too large.")
    return value


def _int(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise InvalidRequest("The body has a number that is too large.")
    return int(digits)


def _refuse_lone_surrogates(value: dict[str, Any]) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequest(
            "The body has an unpaired surrogate in a string, which is not a valid character."
        ) from None
