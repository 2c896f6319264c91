"""Text of clients on a terminal: nothing of it moves the cursor, changes colours, or turns the line around."""

import unicodedata

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode's categories of controls, formats (bidirectional overrides among them), surrogates, private and unassigned
characters, and separators of lines and paragraphs."""


def printable(text: str, keep: str = "") -> str:
    """With every such character as its escape, but for those of `keep`."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character in keep or unicodedata.category(character) not in _ESCAPED
        else character.encode("unicode_escape").decode()
        for character in text
    )


def cut(text: str, width: int) -> str:
    """On one line, and at most so wide."""
    line = printable(text.replace("\n", " "))
    return line if len(line) <= width else line[: max(0, width - 1)] + "…"
