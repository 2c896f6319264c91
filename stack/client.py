"""What the stack asks of its own services over HTTP: JSON in, JSON out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from stack.config import Config
from stack.protocol import StackError

_direct = build_opener(ProxyHandler({}))  # our own services are never behind the machine's web proxy


@dataclass(frozen=True)
class Answer:
    status: int
    request_id: str | None
    body: Any  # parsed JSON; None when it is not JSON


def ask(url: str, body: dict[str, Any] | None = None, *, key: str | None = None, timeout: float = 5) -> Answer | None:
    """GET, or POST when there is a body. None: nobody answered."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with _direct.open(Request(url, data, headers), timeout=timeout) as response:  # noqa: S310  # our own address
            return Answer(response.status, response.headers["X-Request-ID"], _parse(response.read()))
    except HTTPError as error:
        with error:
            return Answer(error.code, error.headers["X-Request-ID"], _parse(error.read()))
    except (OSError, HTTPException):
        return None


def own_key(config: Config) -> str | None:
    """A key for the stack's own question, None when it needs none: API_KEY of the environment, or a plain one.

    Raises StackError when there is neither.
    """
    file = config.api_keys_file
    if file is None:
        return None
    given = os.environ.get("API_KEY")
    if given:
        return given
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []  # an operator who may not read the keys may still have one
    for line in lines:
        name, separator, key = line.strip().partition(":")
        if separator and not name.startswith(("#", "{")):
            return key.strip()
    raise StackError(f"{file} has no plain key to ask with: name one, as in `make smoke API_KEY=sk-…`.")


def served_model(config: Config) -> str | None:
    """The name of the model that is ready to answer behind nginx; None while there is none."""
    answer = ask(f"{config.address}/readyz")
    if answer is None or answer.status != 200 or not isinstance(answer.body, dict):
        return None
    return str(answer.body.get("model", "unknown"))


def prometheus_value(config: Config, query: str) -> float | None:
    """The sum of an instant query's samples; None when there are none, or nobody answered."""
    answer = ask(f"http://127.0.0.1:{config.prometheus_port}/api/v1/query?{urlencode({'query': query})}")
    if answer is None or answer.status != 200:
        return None
    samples = answer.body["data"]["result"]
    return sum(float(sample["value"][1]) for sample in samples) if samples else None


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
