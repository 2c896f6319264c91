"""Grammars that an answer must keep to: from a JSON schema to a Constraint for one sequence.

llguidance does the work, in Rust: why it, and what was measured, is in docs/decisions/0700-llguidance.md.
"""

import asyncio
import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from app.engine.base import ModelInfo
from app.errors import GenerationFailed, InvalidRequest
from app.messages import Constraint, GenerationRequest, JsonFormat
from app.serving.json_schema import name_keyword, schema_text, unsupported
from app.serving.tokenizer import ModelTokenizer

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # exists for type checkers alone

_KEPT = 64  # compiled grammars: an application sends the same few again and again

_JSON_STYLE: "JsonCompileOptions" = {
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
    """One sequence's place in a grammar: see `app.messages.Constraint`."""

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
            raise GenerationFailed("The answer's grammar became too costly to follow.")


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
        if request.response_format is None:
            return None
        _refuse_conflicts(request)
        return await asyncio.to_thread(self._json, request.response_format)

    def _json(self, wanted: JsonFormat) -> Constraint:
        schema = {"type": "object"} if wanted.schema is None else wanted.schema
        return self._constraint(json_grammar(schema_text(schema, "response_format")), "response_format")

    def _constraint(self, grammar: str, param: str) -> Constraint:
        return GrammarConstraint(self._compiled(grammar, param).deep_copy())

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
                    slices=LLTokenizer.json_slices(),
                )
            return self._tokenizer


def json_grammar(schema: str) -> str:
    """The library's grammar of the JSON that a schema allows."""
    return LLMatcher.grammar_from_json_schema(schema, overrides=_JSON_STYLE)


def _refuse_conflicts(request: GenerationRequest) -> None:
    """A grammar decides where its answer ends: nothing else may."""
    for field, given in (
        ("stop", bool(request.stop)),
        ("ignore_eos", request.ignore_eos),
        ("min_tokens", request.sampling.min_tokens > 0),
    ):
        if given:
            raise InvalidRequest(f"{field} cannot be combined with response_format.", param=field)
