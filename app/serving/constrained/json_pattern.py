"""Which regular expressions of a JSON schema mean the same in ECMA-262, Rust and Python.

JSON schema's `pattern` is written in ECMA-262's syntax, the grammar library reads Rust's, and Python's validators
read Python's. Expressions that differ between them are refused: an answer that a validator rejects would be worse.
"""

import re

LONGEST = 2000  # characters

_ESCAPES = frozenset("dwsSnrtfvxu")
"""Escaped letters with the same meaning in all three. `\\D` and `\\W` differ: Python's exclude more characters."""

_SET_OPERATORS = ("&&", "--", "~~", "||")
"""Within brackets these combine sets in Rust, and are plain characters in the others."""


def is_portable(pattern: str) -> bool:
    """Whether the pattern is short enough and means the same in all three. The library checks whether it is valid."""
    if len(pattern) > LONGEST or not _scan(pattern):
        return False
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _scan(pattern: str) -> bool:
    at = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            if not _plain_escape(pattern, at):
                return False
            at += 2
        elif pattern[at] == "[":
            end = _class_end(pattern, at)
            if end is None:
                return False
            at = end
        elif pattern.startswith("(?", at) and not pattern.startswith("(?:", at):
            return False  # look-around, flags, names
        elif pattern[at] in "*+?}" and pattern.startswith("+", at + 1):
            return False  # a possessive quantifier in Python, a repeated repetition in Rust
        else:
            at += 1
    return True


def _class_end(pattern: str, start: int) -> int | None:
    """Where a bracket expression ends; None when it is not plain."""
    negated = pattern.startswith("^", start + 1)
    at = start + 1 + negated
    if pattern.startswith("]", at):
        return None  # an empty set, or a bracket in the set
    while at < len(pattern) and pattern[at] != "]":
        if pattern[at] == "[" or pattern[at : at + 2] in _SET_OPERATORS:
            return None
        if pattern[at] == "\\":
            if not _plain_escape(pattern, at) or (negated and pattern[at + 1] in "dw"):
                return None
            at += 1
        at += 1
    return at + 1


def _plain_escape(pattern: str, at: int) -> bool:
    escaped = pattern[at + 1 : at + 2]
    return escaped in _ESCAPES or (escaped.isascii() and not escaped.isalnum() and escaped != "")
