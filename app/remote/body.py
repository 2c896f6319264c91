"""The body of a request to another server, written from ours: what our client sent is not passed through."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from app.contract.errors import UnsupportedField
from app.contract.requests import GenerationRequest, JsonFormat, Message, SamplingParams, Tool
from app.remote.served import Served
from app.serving.constrained.grammar import refuse_conflicts
from app.serving.constrained.json_schema import enforced
from app.serving.constrained.schema_text import Origin, schema_text
from app.serving.tools.grammar import arguments_schema

CHAT, TEXT = "chat/completions", "completions"
"""Paths below the base address."""


def refuse_unsupported(request: GenerationRequest) -> None:
    """Raises InvalidRequest for what no other server is asked for."""
    refuse_conflicts(request)
    if request.prompt_logprobs is not None:
        raise UnsupportedField(
            "logprobs is not supported together with echo: this server's engine is remote.", param="logprobs"
        )
    if request.context:
        raise UnsupportedField("input_extra is not supported: this server's engine is remote.", param="input_extra")
    if request.begun:
        raise UnsupportedField(
            "The beginning of a gap's text is not supported: this server's engine is remote.", param=None
        )


def path_of(request: GenerationRequest) -> str:
    return CHAT if request.prompt is None else TEXT


def body_of(request: GenerationRequest, served: Served, *, share_prefixes: bool) -> bytes:
    """JSON. Raises InvalidRequest for what this server would leave out of its answer without a word."""
    body: dict[str, Any] = {"model": served.name, "stream": True, "stream_options": {"include_usage": True}}
    if served.counts_as_it_goes:
        body["stream_options"]["continuous_usage_stats"] = True
    body |= _conversation(request, served) if request.prompt is None else _text(request, served)
    body |= _sampling(request.sampling, served) | _limits(request, served)
    for name in served.lacks & body.keys():
        raise UnsupportedField(
            f"{name} is not supported: the server that computes the answers does not have it.", param=name
        )
    if request.user is not None:
        body["user"] = request.user
    if served.salts_its_cache and not share_prefixes:
        # Its cached prompts are not shared between tenants, as ours are not: all come with one key.
        body["cache_salt"] = hashlib.sha256(request.tenant.encode()).hexdigest()
    return json.dumps(body, separators=(",", ":")).encode()


def size_of(request: GenerationRequest) -> int:
    """About how many characters it has: an id counts as four."""
    turns = sum(len(message.content) for message in request.messages)
    calls = sum(len(call.arguments) for message in request.messages for call in message.tool_calls)
    prompt = request.prompt or ""
    raw = len(prompt) if isinstance(prompt, str) else 4 * len(prompt)
    tools = sum(len(str(tool.parameters)) for tool in request.shown_tools)
    return turns + calls + raw + tools + len(request.suffix or "")


def reads_schemas(request: GenerationRequest, served: Served) -> bool:
    """Whether writing its body may take tens of milliseconds."""
    strict = request.response_format is not None or any(tool.strict for tool in request.shown_tools)
    return served.ignores_keywords and strict


def _conversation(request: GenerationRequest, served: Served) -> dict[str, Any]:
    fields: dict[str, Any] = {"messages": [_message(message) for message in request.messages]}
    if request.response_format is not None:
        fields["response_format"] = _format(request.response_format, served)
    if request.shown_tools:
        choice = request.tool_choice
        if choice.mode == "required" and not served.requires_calls:
            raise UnsupportedField(
                "A tool_choice that requires a call is not supported: the server that computes the answers does not "
                "keep to it.",
                param="tool_choice",
            )
        named = {"type": "function", "function": {"name": choice.name}}
        fields["tools"] = [_tool(tool, served) for tool in request.shown_tools]
        fields["tool_choice"] = choice.mode if choice.name is None else named
        if not request.parallel_tool_calls:
            fields["parallel_tool_calls"] = False
    if request.sampling.top_logprobs is not None:
        fields |= {"logprobs": True, "top_logprobs": request.sampling.top_logprobs}
    return fields


def _format(wanted: JsonFormat, served: Served) -> dict[str, Any]:
    if wanted.schema is None:
        return {"type": "json_object"}
    if served.ignores_keywords:
        _refuse_unenforced(wanted.schema, Origin("response_format"))
    if served.has_schemas_of_objects:
        return {"type": "json_object", "schema": wanted.schema}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted.schema, "strict": True}}


def _refuse_unenforced(schema: Mapping[str, Any], origin: Origin) -> None:
    """Raises InvalidRequest for a schema that our own engine would refuse: another one knows no more keywords."""
    schema_text(schema, origin)  # bounds first
    enforced(schema, origin, strict=True)


def _message(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["content"] = message.content or None
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        turn["name"] = message.name
    return turn


def _tool(tool: Tool, served: Served) -> dict[str, Any]:
    """Arguments are an object, whether the schema says so or not: to a server an empty one allows anything."""
    parameters = arguments_schema(tool)
    if tool.strict and served.ignores_keywords:
        _refuse_unenforced(parameters, Origin("tools", tool.name))
    function: dict[str, Any] = {"name": tool.name, "parameters": parameters}
    if tool.description:
        function["description"] = tool.description
    if tool.strict or served.holds_strict_calls:
        function["strict"] = True
    return {"type": "function", "function": function}


def _text(request: GenerationRequest, served: Served) -> dict[str, Any]:
    fields: dict[str, Any] = {"prompt": request.prompt}
    if request.suffix is not None:
        if not served.fills_gaps:
            raise UnsupportedField(
                "suffix is not supported: the server that computes the answers does not fill in the middle.",
                param="suffix",
            )
        fields["suffix"] = request.suffix
    if request.sampling.top_logprobs is not None:
        fields["logprobs"] = request.sampling.top_logprobs
    return fields


def _sampling(sampling: SamplingParams, served: Served) -> dict[str, Any]:
    """The fields with an effect. What the client left to the model's defaults is left to them there too."""
    default = SamplingParams(seed=0)
    fields: dict[str, Any] = {"seed": sampling.seed}
    given: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or served.every_token,
    }
    fields |= {name: value for name, value in given.items() if name not in sampling.left_out}
    for name in ("presence_penalty", "frequency_penalty", "min_tokens"):
        if getattr(sampling, name) != getattr(default, name):
            fields[name] = getattr(sampling, name)
    if sampling.min_p != default.min_p or served.filters_by_default:
        fields["min_p"] = sampling.min_p
    if sampling.repetition_penalty != default.repetition_penalty or served.filters_by_default:
        fields[served.repetition_penalty] = sampling.repetition_penalty
    if sampling.logit_bias:
        fields["logit_bias"] = {str(token): bias for token, bias in sampling.logit_bias.items()}
    return fields


def _limits(request: GenerationRequest, served: Served) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if request.max_tokens is not None:  # more than the context has is cut to what fits, and not refused
        fields["max_tokens"] = min(request.max_tokens, served.context_tokens or request.max_tokens)
    elif request.prompt is not None:  # where it is absent it is 16
        fields["max_tokens"] = served.as_many_as_fit
    if request.stop:
        fields["stop"] = list(request.stop)
    if request.ignore_eos:
        fields["ignore_eos"] = True
    return fields
