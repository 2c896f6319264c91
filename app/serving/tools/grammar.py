"""The grammar of an answer that may or must call functions, in llguidance's dialect of Lark."""

import json
import re
from collections.abc import Sequence
from typing import Any

from app.contract.errors import InvalidRequest
from app.contract.requests import FUNCTION_NAME, Tool
from app.serving.tools.format import CALL_TAIL, MOST_CALLS, OPEN, call_head


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """The schema of a call's arguments, which are an object. Raises InvalidRequest."""
    if not re.fullmatch(FUNCTION_NAME, tool.name):
        raise InvalidRequest("A function's name must have 1 to 64 letters, digits, _ or -.", param="tools")
    kinds = tool.parameters.get("type", "object")
    if "object" not in (kinds if isinstance(kinds, list) else [kinds]):
        raise InvalidRequest(f'The parameters of the tool {tool.name} must be of the type "object".', param="tools")
    return {**tool.parameters, "type": "object"}


def arguments_rule(number: int) -> str:
    """The name of the rule for the arguments of a function: JSON that fits its schema."""
    return f"arguments{number}"


def call_rules(names: Sequence[str], *, several: bool) -> str:
    """The rule `calls`: everything after the first OPEN. For each of `names` it uses a rule for the arguments. At
    most MOST_CALLS calls, or one."""
    functions = [
        f"function{number}: {json.dumps(call_head(name))} {arguments_rule(number)} {json.dumps(CALL_TAIL)}"
        for number, name in enumerate(names)
    ]
    options = " | ".join(f"function{number}" for number in range(len(functions)))
    again = json.dumps(f"\n{OPEN}")
    more = f"({again} call){{0,{MOST_CALLS - 1}}}" if several else ""
    return "\n".join([f"calls: call {more}", f"call: {options}", *functions])


FREE_OR_CALLS = f"""start: TEXT | before calls
before[lazy]: /(?s:.*){OPEN}/
TEXT: /(?s:.*)/"""
"""Text, and then perhaps calls: after OPEN only a call may follow."""

CALLS = f"start: {json.dumps(OPEN)} calls"

JSON_OR_CALLS = f"start: json | {json.dumps(OPEN)} calls"
"""JSON by the rule `json`, or calls."""
