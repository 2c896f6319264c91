"""Grammars that an answer must keep to: from a JSON schema to a Constraint for one sequence.

llguidance does the work, in Rust: why it, and what was measured, is in docs/decisions/0700-llguidance.md.
"""

import asyncio
import json
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from app.contract.engine import ModelInfo
from app.contract.errors import GenerationFailed, InvalidRequest
from app.contract.messages import Constraint, GenerationRequest, JsonFormat
from app.serving.constrained.json_schema import check_schema, name_keyword, unsupported
from app.serving.prompt.tokenizer import ModelTokenizer
from app.serving.tools.grammar import (
    CALLS,
    FREE_OR_CALLS,
    arguments_schema,
    call_rules,
    json_or_calls,
)

_KEPT = 64  # compiled grammars: an application sends the same few again and again

_MOST_BYTES = 262_144  # of a grammar with all of its tools

_JSON_STYLE = {
    # One space after a comma and a colon, as Python writes JSON, and none elsewhere: a small or hot model that may
    # write more of them fills its answer with them.
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    # No \uXXXX: what may not stand in a string as it is has a short escape, except control characters, about which
    # regular expressions disagree.
    "json_allowed_escapes": 'nrbtf\\"',
    "lenient": False,
    "coerce_one_of": False,
}


def _limits() -> LLParserLimits:
    """Bounds of what one grammar may cost, from its first compilation to its last token.

    A kilobyte or two for each lexer state, and 14,000 units of fuel in a millisecond, by the library's own account.
    """
    return LLParserLimits(
        max_lexer_states=20_000,
        max_grammar_size=200_000,
        step_lexer_fuel=100_000,
        verbose_errors=False,  # they quote the schema
    )


class GrammarConstraint:
    """One sequence's place in a grammar: see `app.contract.messages.Constraint`."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self) -> bytes:
        """Raises GenerationFailed when the grammar costs more than its limits."""
        mask = self._matcher.compute_bitmask()
        self._refuse_errors()
        return mask

    def accept(self, token: int) -> None:
        """Raises GenerationFailed when the token was not allowed."""
        self._matcher.consume_token(token)  # a token that was not allowed is one of its errors
        self._refuse_errors()

    def _refuse_errors(self) -> None:
        if self._matcher.is_error():
            raise GenerationFailed("The answer's grammar became too complex to follow.")


class Grammars:
    """Makes constraints for the served model. Safe under threads."""

    def __init__(self, tokenizer: ModelTokenizer, info: ModelInfo) -> None:
        self._source = tokenizer
        self._info = info
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled = lru_cache(maxsize=_KEPT)(self._compile)

    async def constraint(self, request: GenerationRequest) -> Constraint | None:
        """What the request's answer must keep to, None when it is free. Compiles in a thread.

        Raises InvalidRequest for a schema that cannot be enforced, and for what cannot go with one.
        """
        if request.response_format is None and not request.callable_tools:
            return None
        _refuse_conflicts(request)
        return await asyncio.to_thread(self._constraint, request)

    def _constraint(self, request: GenerationRequest) -> Constraint:
        param = "tools" if request.callable_tools else "response_format"
        return GrammarConstraint(self._compiled(_grammar(request), param).deep_copy())

    def _compile(self, grammar: str, param: str) -> LLMatcher:
        matcher = LLMatcher(self._vocabulary(), grammar, log_level=0, limits=_limits())
        if not matcher.is_error():
            matcher.compute_bitmask()  # fails for what nothing can satisfy; and its lexer is warm for every copy
        if matcher.is_error():
            keyword = name_keyword(matcher.get_error())
            if keyword is None:
                raise InvalidRequest(
                    "The JSON schema cannot be enforced: nothing matches it, or it is too complex.", param=param
                )
            raise unsupported(keyword, param, "is used in a way that is not supported, or nothing satisfies it")
        return matcher

    def _vocabulary(self) -> LLTokenizer:
        """Built when it is first needed: it takes a second, and many servers never constrain an answer."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = LLTokenizer(
                    self._source.with_control_tokens_marked(),
                    n_vocab=max(self._info.vocabulary, self._source.vocabulary),
                    eos_token=sorted(self._info.stop_tokens),
                )
            return self._tokenizer


def _grammar(request: GenerationRequest) -> str:
    """The grammar of the whole answer. Raises InvalidRequest."""
    tools, wanted = request.callable_tools, request.response_format
    answer = None if wanted is None else _json_rule(_schema(wanted), "response_format")
    if not tools:
        return f"start: {answer}"
    rules = call_rules(
        [tool.name for tool in tools],
        [_json_rule(arguments_schema(tool), "tools") for tool in tools],
        several=request.parallel_tool_calls,
    )
    if len(rules) > _MOST_BYTES:
        raise InvalidRequest(f"The grammar of all tools together is larger than {_MOST_BYTES} bytes.", param="tools")
    if request.tool_choice.mode == "required":
        start = CALLS
    else:
        start = FREE_OR_CALLS if answer is None else json_or_calls(answer)
    return f"{start}\n{rules}"


def _schema(wanted: JsonFormat) -> Mapping[str, Any]:
    return {"type": "object"} if wanted.schema is None else wanted.schema


def _json_rule(schema: Mapping[str, Any], param: str) -> str:
    """The body of a rule for the JSON that a schema allows."""
    check_schema(schema, param)
    return f"%json {json.dumps({**schema, 'x-guidance': _JSON_STYLE})}"


def _refuse_conflicts(request: GenerationRequest) -> None:
    """A grammar decides where its answer ends: nothing else may."""
    has_format = request.response_format is not None
    for field, given in (
        ("stop", bool(request.stop) and has_format),  # words of an answer with tools may end at one, calls do not
        ("ignore_eos", request.ignore_eos),
        ("min_tokens", request.sampling.min_tokens > 0),
    ):
        if given:
            raise InvalidRequest(
                f"{field} cannot be combined with {'response_format' if has_format else 'tools'}.", param=field
            )
