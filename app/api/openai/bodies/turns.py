"""Turns of a conversation in another API's form, made into those of a chat, so that they keep a chat's rules.

A refusal names the place in the client's own body.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from app.api.http.body_model import Body
from app.api.openai.bodies.message_fields import MessageFields, conversation
from app.contract.errors import InvalidRequest, ServingError
from app.contract.requests import Message

Error = TypeVar("Error", bound=ServingError)
Parsed = TypeVar("Parsed", bound=Body)


class Turns:
    """Collects turns, oldest first. `place` names the part of the client's body that a turn or a call comes from.

    `id_of_call` and `id_of_result` are the names that the ids of calls have there.
    """

    def __init__(self, id_of_call: str, id_of_result: str) -> None:
        self._id_of_call = id_of_call
        self._id_of_result = id_of_result
        self._turns: list[dict[str, Any]] = []
        self._places: dict[str, str] = {}  # of a chat's body → of the client's

    def say(self, role: str, text: str, place: str) -> None:
        self._add({"role": role, "content": text}, place)

    def call(self, call_id: str, name: str, arguments: str, place: str) -> None:
        """A call of the assistant: it belongs to the assistant's turn before it, if that is the last one."""
        if not self._turns or self._turns[-1]["role"] != "assistant":
            self._add({"role": "assistant", "content": ""}, place)
        calls = self._turns[-1].setdefault("tool_calls", [])
        spot = f"messages[{len(self._turns) - 1}].tool_calls[{len(calls)}]"
        self._places |= {f"{spot}.function": place, f"{spot}.id": f"{place}.{self._id_of_call}"}
        calls.append({"id": call_id, "function": {"name": name, "arguments": arguments}})

    def result(self, call_id: str, text: str, place: str) -> None:
        self._places[f"messages[{len(self._turns)}].tool_call_id"] = f"{place}.{self._id_of_result}"
        self._add({"role": "tool", "content": text, "tool_call_id": call_id}, place)

    def messages(self) -> tuple[Message, ...]:
        """Raises InvalidRequest for a turn that a chat would refuse."""
        try:
            return conversation([at(f"messages[{n}]", MessageFields, turn) for n, turn in enumerate(self._turns)])
        except InvalidRequest as error:
            raise in_words_of_client(error, self._places) from None

    def _add(self, turn: dict[str, Any], place: str) -> None:
        self._places[f"messages[{len(self._turns)}]"] = place
        self._turns.append(turn)


def at(place: str, kind: type[Parsed], value: Any) -> Parsed:
    """A part of a body. Raises InvalidRequest, with the part's place."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{place} must be an object.", param=place)
    try:
        return kind.parse(value)
    except InvalidRequest as error:
        raise type(error)(f"{place}.{error.message}", param=f"{place}.{error.param}") from None


def in_words_of_client(error: Error, names: Mapping[str, str]) -> Error:
    """The same error with other names for fields and places: the longest that begins its `param` is replaced."""
    param = error.param or ""
    fits = [name for name in names if re.match(rf"{re.escape(name)}(?![\w])", param)]
    if not fits:
        return error
    ours = max(fits, key=len)
    told = copy.copy(error)
    told.param = names[ours] + param[len(ours) :]
    told.message = re.sub(rf"(?<!\w){re.escape(ours)}(?!\w)", names[ours], error.message)
    return told
