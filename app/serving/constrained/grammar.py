"""The grammars of answers: a JSON schema or tools as data for the engine.

See docs/decisions/0700-llguidance.md for what is enforced, and 0702 for who compiles it.
"""

import json
from collections.abc import Mapping
from typing import Any

from app.contract.errors import InvalidRequest
from app.contract.requests import GenerationRequest, Grammar, JsonFormat, JsonGrammar, LarkGrammar, SchemaRule, Tool
from app.serving.constrained.dropped_keywords import DroppedKeywords
from app.serving.constrained.json_schema import enforced
from app.serving.constrained.schema_text import Origin, schema_text
from app.serving.tools.grammar import (
    CALLS,
    FREE_OR_CALLS,
    JSON_OR_CALLS,
    arguments_rule,
    arguments_schema,
    call_rules,
)

_MOST_BYTES = 262_144  # of all schemas of a request


def grammar_of(request: GenerationRequest, dropped: DroppedKeywords) -> Grammar | None:
    """The grammar of the request's answer, None if there is none. Takes tens of milliseconds for large schemas.

    `dropped` is told what of a tool's schema is not enforced. Raises InvalidRequest for a schema that cannot be
    enforced and must be, and for fields that cannot be combined with one.
    """
    refuse_conflicts(request)
    if request.response_format is None and not request.callable_tools:
        return None
    if request.callable_tools:
        return _grammar_of_tools(request, dropped)
    return JsonGrammar(schema=_schema(request.response_format), param="response_format")


def _grammar_of_tools(request: GenerationRequest, dropped: DroppedKeywords) -> LarkGrammar:
    """Calls, or text and calls, or JSON or calls."""
    tools = request.callable_tools
    # Bounds first: reading a schema takes longer.
    size = sum(len(schema_text(tool.parameters, Origin("tools", tool.name))) for tool in tools)
    if size > _MOST_BYTES:
        raise InvalidRequest(f"The schemas of all tools together are larger than {_MOST_BYTES} bytes.", param="tools")
    schemas = {arguments_rule(number): _arguments(tool, dropped) for number, tool in enumerate(tools)}
    start = FREE_OR_CALLS
    if request.tool_choice.mode == "required":
        start = CALLS
    elif request.response_format is not None:
        start = JSON_OR_CALLS
        schemas["json"] = SchemaRule(_schema(request.response_format))
    rules = call_rules([tool.name for tool in tools], several=request.parallel_tool_calls)
    return LarkGrammar(rules=f"{start}\n{rules}", schemas=schemas, param="tools")


def _arguments(tool: Tool, dropped: DroppedKeywords) -> SchemaRule:
    """What is enforced of a function's arguments."""
    given = arguments_schema(tool)
    kept = enforced(given, Origin("tools", tool.name), strict=tool.strict)
    if kept.dropped:
        dropped.tell(tool.name, given, kept.dropped)
    return SchemaRule(json.dumps(kept.schema), tool.name, tool.strict)


def _schema(wanted: JsonFormat | None) -> str:
    """The JSON text of what is enforced: all of the schema. Without one, any JSON object."""
    schema: Mapping[str, Any] = {"type": "object"}
    if wanted is not None and wanted.schema is not None:
        schema = wanted.schema
    origin = Origin("response_format")
    schema_text(schema, origin)
    return json.dumps(enforced(schema, origin, strict=True).schema)


def refuse_conflicts(request: GenerationRequest) -> None:
    """Where an answer has a grammar, only that and stop strings may decide where it ends. Raises InvalidRequest."""
    has_format = request.response_format is not None
    if not has_format and not request.callable_tools:
        return
    for field, given in (
        ("ignore_eos", request.ignore_eos),
        ("min_tokens", request.sampling.min_tokens > 0),
    ):
        if given:
            raise InvalidRequest(
                f"{field} cannot be combined with {'response_format' if has_format else 'tools'}.", param=field
            )
