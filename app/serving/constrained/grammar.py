"""The grammars of answers: from a JSON schema or tools to a Constraint for one sequence.

The library llguidance compiles and follows them. See docs/decisions/0700-llguidance.md for the reasons and
measurements.
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

_KEPT = 64  # compiled grammars: applications repeat the same few

_MOST_BYTES = 262_144  # of a grammar with all its tools

_JSON_STYLE = {
    # One space after a comma and a colon, as in Python's JSON, and none elsewhere. If more were allowed, a small
    # model or a high temperature would fill the answer with spaces.
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    # No \uXXXX: every character that needs an escape has a short one, except control characters, which regular
    # expressions treat differently.
    "json_allowed_escapes": 'nrbtf\\"',
    "lenient": False,
    "coerce_one_of": False,
}


def _limits() -> LLParserLimits:
    """Limits for one grammar, from its compilation to its last token.

    By the library's documentation a lexer state takes one or two kilobytes, and 14,000 units of fuel are a
    millisecond.
    """
    return LLParserLimits(
        max_lexer_states=20_000,
        max_grammar_size=200_000,
        step_lexer_fuel=100_000,
        verbose_errors=False,  # those would quote the schema
    )


class GrammarConstraint:
    """The state of a grammar for one sequence. See `app.contract.messages.Constraint`."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self) -> bytes:
        """Raises GenerationFailed when the grammar exceeds its limits."""
        mask = self._matcher.compute_bitmask()
        self._refuse_errors()
        return mask

    def accept(self, token: int) -> None:
        """Raises GenerationFailed when the token was not allowed."""
        self._matcher.consume_token(token)  # a token that is not allowed sets its error
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
        """The constraint of the request's answer, None if there is none. Compiles in a thread.

        Raises InvalidRequest for a schema that cannot be enforced, and for fields that cannot be combined with one.
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
            # Fails for a grammar that no answer fits, and fills the lexer's cache for every copy.
            matcher.compute_bitmask()
        if matcher.is_error():
            keyword = name_keyword(matcher.get_error())
            if keyword is None:
                raise InvalidRequest(
                    "The JSON schema cannot be enforced: nothing matches it, or it is too complex.", param=param
                )
            raise unsupported(keyword, param, "is used in a way that is not supported, or nothing satisfies it")
        return matcher

    def _vocabulary(self) -> LLTokenizer:
        """Built at the first use: it takes a second, and many servers never need it."""
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
    """Only the grammar may decide where its answer ends."""
    has_format = request.response_format is not None
    for field, given in (
        ("stop", bool(request.stop) and has_format),  # with tools, text may end at a stop string
        ("ignore_eos", request.ignore_eos),
        ("min_tokens", request.sampling.min_tokens > 0),
    ):
        if given:
            raise InvalidRequest(
                f"{field} cannot be combined with {'response_format' if has_format else 'tools'}.", param=field
            )
