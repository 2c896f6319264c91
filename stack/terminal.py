"""Text from anywhere on an operator's terminal: nothing in it acts on the terminal, and rows fit its width."""

from __future__ import annotations

import json
import unicodedata

_ACTS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of what a terminal may obey, reorder, hide or break at. Unassigned characters (Cn) are among
them: this Python may be older than the terminal."""


def escaped(text: str) -> str:
    """`text` with the characters of these categories as in JSON: `\\u009b`."""
    if text.isprintable():
        return text
    for character in set(text):
        if unicodedata.category(character) in _ACTS:
            text = text.replace(character, json.dumps(character)[1:-1])
    return text


def cells(text: str) -> int:
    """How many columns `escaped` text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def rows(text: str, width: int) -> list[str]:
    """`escaped` text in rows of at most `width` columns, at least 2: a wide character takes two."""
    found = [""]
    used = 0
    for character in text:
        needed = _cells(character)
        if used + needed > width:
            found.append("")
            used = 0
        found[-1] += character
        used += needed
    return found


def cut(text: str, width: int) -> str:
    """`escaped` text in one row of at most `width` columns, with `…` for what is missing."""
    if cells(text) <= width:
        return text
    return rows(text, width - 1)[0] + "…" if width > 2 else ""


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
