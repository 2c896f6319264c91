"""Compiles the grammars of requests, with the library llguidance.

Every request compiles its own matcher. Copies of one share the lexer's states, so a long answer would use up those of
all requests with the same grammar: docs/decisions/0702-grammars-as-data.md.
"""

import json
import logging
import re
import threading
from collections.abc import Container
from pathlib import Path
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from tokenizers import Tokenizer

from app.contract.control_tokens import control_tokens
from app.contract.engine import ModelInfo
from app.contract.errors import GrammarExhausted, InvalidRequest, NoTokenLeft
from app.contract.requests import Grammar, JsonGrammar, LarkGrammar
from app.engine.grammars.constraint import Constraint
from app.engine.grammars.loose_schemas import LooseSchemas
from app.work_pool import WorkPool

_log = logging.getLogger(__name__)

_ANY_OBJECT = '{"type": "object"}'
_THREADS = 2  # that compile at once: a grammar takes one to fifty milliseconds
_STYLE = {
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
_NOT_ALLOWED = "doesn't satisfy the grammar"  # in the library's complaint about a token
_KEYWORD = re.compile(
    r"\b(type|enum|const|anyOf|oneOf|allOf|prefixItems|items|properties|patternProperties|additionalProperties|"
    r"required|pattern|format|min(?:imum|Length|Items|Properties)|max(?:imum|Length|Items|Properties)|"
    r"exclusive(?:Minimum|Maximum)|multipleOf|uniqueItems)\b"
)


def _limits() -> LLParserLimits:
    """Limits of one request, from compiling its grammar to its last token."""
    return LLParserLimits(
        # A string of 8,000 characters that has a `maxLength` needs 100,000 states, 25 to 40 MiB.
        max_lexer_states=150_000,
        max_grammar_size=200_000,
        step_lexer_fuel=100_000,  # by the library's documentation 14,000 units are a millisecond
        verbose_errors=False,  # those would quote the schema
    )


class Matcher:
    """The state of a grammar for one sequence. See `app.engine.grammars.constraint.Constraint`."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allowed(self) -> bytes:
        """Raises GrammarExhausted when the grammar exceeds its limits."""
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            raise GrammarExhausted
        return mask

    def accept(self, token: int) -> None:
        """Raises GrammarExhausted as `allowed` does, NoTokenLeft when the token was not allowed."""
        if not self._matcher.consume_token(token):
            raise NoTokenLeft if _NOT_ALLOWED in self._matcher.get_error() else GrammarExhausted


class Grammars:
    """Compiles for one model, on threads of its own. `folder` has the model's `tokenizer.json`."""

    def __init__(self, folder: Path, info: ModelInfo) -> None:
        self._folder = folder
        self._info = info
        self._work = WorkPool("grammars", threads=_THREADS)
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._loose = LooseSchemas()

    async def constraint(self, grammar: Grammar, tenant: str) -> Constraint:
        """A constraint for one sequence. Raises InvalidRequest for a grammar that cannot be enforced, Overloaded."""
        return await self._work.run(tenant, self.compile, grammar)

    def compile(self, grammar: Grammar) -> Matcher:
        """Takes milliseconds. Safe under threads. Raises InvalidRequest."""
        if isinstance(grammar, JsonGrammar):
            matcher = self._compiled(_json_rule("start", grammar.schema))
        else:
            matcher = self._of_rules(grammar)
        if matcher.is_error():
            raise InvalidRequest(_refusal(matcher.get_error()), param=grammar.param)
        return Matcher(matcher)

    def _of_rules(self, grammar: LarkGrammar) -> LLMatcher:
        """With schemas left open that need not be enforced, as far as that helps: first those that the library
        refuses, then the largest ones, because all may be too complex together. Raises InvalidRequest."""
        matcher = self._compiled(_lark(grammar, self._loose.of(grammar)))
        if matcher.is_error() and self._find_refused(grammar):
            matcher = self._compiled(_lark(grammar, self._loose.of(grammar)))
        if not matcher.is_error():
            return matcher
        for loose in self._loose.fewer_together(grammar):
            matcher = self._compiled(_lark(grammar, loose))
            if not matcher.is_error():
                tools = sorted(grammar.schemas[name].tool or "" for name in loose)
                _log.info("tools' schemas are too complex together: any object is allowed", extra={"tools": tools})
                return matcher
        strict = [rule for rule in grammar.schemas.values() if rule.strict and rule.tool is not None]
        if len(strict) > 1:
            largest = max(strict, key=lambda rule: len(rule.schema))
            raise InvalidRequest(
                "The JSON schemas of the tools that are strict are too complex together to be enforced; the largest "
                f"is that of the tool {largest.tool}.",
                param=grammar.param,
            )
        return matcher

    def _compiled(self, lark: str) -> LLMatcher:
        matcher = LLMatcher(self._vocabulary(), lark, log_level=0, limits=_limits())
        if not matcher.is_error():
            matcher.compute_bitmask()  # fails for a grammar that no answer fits
        return matcher

    def _find_refused(self, grammar: LarkGrammar) -> bool:
        """Whether schemas that the library refuses were found, which need not be enforced. Raises InvalidRequest for
        one that must be."""
        found = False
        for rule in grammar.schemas.values():
            matcher = self._compiled(_json_rule("start", rule.schema))
            if not matcher.is_error():
                continue
            if rule.strict:
                raise InvalidRequest(_refusal(matcher.get_error(), rule.tool), param=grammar.param)
            found = True
            self._loose.refuse(rule.schema)
            _log.info("a tool's schema is not enforced: any object is allowed", extra={"tool": rule.tool})
        return found

    def _vocabulary(self) -> LLTokenizer:
        """Built at the first use: it takes a second, and many servers never need it."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = _tokenizer(self._folder, self._info)
            return self._tokenizer


def _tokenizer(folder: Path, info: ModelInfo) -> LLTokenizer:
    """Control tokens are marked as special, so that grammars do not use them as text."""
    published = Tokenizer.from_file(str(folder / "tokenizer.json"))
    data = json.loads(published.to_str())
    control = control_tokens(data)
    for token in data["added_tokens"]:
        token["special"] = token["special"] or token["content"] in control
    return LLTokenizer(
        json.dumps(data),
        n_vocab=max(info.vocabulary, published.get_vocab_size(with_added_tokens=True)),
        eos_token=sorted(info.stop_tokens),
    )


def _lark(grammar: LarkGrammar, loose: Container[str]) -> str:
    rules = [
        _json_rule(name, _ANY_OBJECT if name in loose else rule.schema) for name, rule in grammar.schemas.items()
    ]
    return "\n".join([grammar.rules, *rules])


def _refusal(complaint: str, tool: str | None = None) -> str:
    """A message for the client: of the library's complaint only the keyword, as the rest may quote the schema."""
    schema = "The JSON schema" if tool is None else f"The JSON schema of the tool {tool}"
    keyword = _KEYWORD.search(complaint.partition(" | ")[0])  # what follows is a line of the grammar
    if keyword is None:
        return f"{schema} cannot be enforced: nothing matches it, or it is too complex."
    return (
        f"{schema} cannot be enforced: {keyword[0]} is used in a way that is not supported, or nothing satisfies it."
    )


def _json_rule(name: str, schema: str) -> str:
    styled: dict[str, Any] = {**json.loads(schema), "x-guidance": _STYLE}
    return f"{name}: %json {json.dumps(styled)}"
