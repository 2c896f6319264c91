"""Asks a running server again what a log line says was asked, with its seed, and shows what differs."""

import difflib
import re
from collections.abc import Iterator
from typing import Any

from httpx2 import Client, HTTPError

from app.logs.conversation import messages_of
from app.logs.line import RequestLine
from app.logs.printable import printable
from app.logs.source import LogsError

_SAMPLING = (
    *("seed", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty"),
    *("frequency_penalty", "logit_bias", "min_tokens", "ignore_eos", "stop"),
)
_GAPS = frozenset({"/infill", "/v1/fim/completions"})
_IDS = re.compile(r"\d+( \d+)*")
_CUT = " more characters]"
_MASK = "[masked]"


def body_of(line: RequestLine) -> tuple[str, dict[str, Any]]:
    """The path and body that ask again. Raises LogsError, naming what the line does not have."""
    fields = line.fields
    if line.failed or "response" not in fields:
        raise LogsError("Its line has no answer: it must be one of LOG_CONTENT=full, and with a single choice.")
    if any(name in fields for name in ("tools", "response_format")):
        raise LogsError("It had tools or a form for its answer, whose schemas are not logged.")
    if "suffix" in fields or "echo" in fields or fields.get("path") in _GAPS:
        raise LogsError("It asked for a gap to be filled, or for its prompt back, which the log does not have whole.")
    turns = messages_of(line)
    texts = [text for _, text in turns]
    if any(
        text.endswith(_CUT) or _MASK in text or (text.startswith(("hmac:", "[")) and text.endswith("]"))
        for text in texts
    ):
        raise LogsError("Its conversation is not logged in full: see LOG_CONTENT and LOG_CONTENT_LIMIT.")
    if fields.get("operation") != "chat" and _IDS.fullmatch(texts[-1]):
        raise LogsError("Its prompt was token ids, or looks like them.")
    if any(role == "tool" for role, _ in turns):
        raise LogsError("It has results of tools, whose calls are not logged in full.")
    body = {name: fields[name] for name in _SAMPLING if name in fields}
    limit = fields.get("most_tokens") or fields.get("max_tokens")
    body |= {"model": fields.get("model"), "max_tokens": limit}
    if fields.get("operation") == "chat":
        return "/v1/chat/completions", body | {"messages": [{"role": role, "content": text} for role, text in turns]}
    return "/v1/completions", body | {"prompt": texts[-1]}


def replay(line: RequestLine, base: str, key: str | None) -> tuple[str, str]:
    """The answer of the log, and the server's now. Raises LogsError."""
    path, body = body_of(line)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    try:
        with Client(base_url=base, headers=headers, timeout=None, trust_env=False) as client:
            answer = client.post(path, json=body)
    except HTTPError as error:
        raise LogsError(f"{base} does not answer: {error}.") from None
    if answer.status_code != 200:
        raise LogsError(f"The server refused it with {answer.status_code}: {answer.text}")
    choice = answer.json()["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return str(line.fields["response"]), str(text or "")


def differences(before: str, now: str) -> Iterator[str]:
    """Lines for a terminal: none when they are the same."""
    marked = difflib.unified_diff(before.splitlines(), now.splitlines(), "logged", "now", lineterm="")
    for text in marked:
        yield printable(text, keep="\t")
