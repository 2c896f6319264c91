"""HTML and SVG as text, with everything that is not ours escaped."""

from __future__ import annotations

import html
from collections.abc import Collection
from typing import Union

from stack.terminal import escaped


class Markup(str):
    """Text that is markup already: only this module makes it."""

    __slots__ = ()


Content = Union[Markup, str, None]
_EMPTY = frozenset({"meta", "line", "rect", "circle", "path", "polyline", "col"})


def text(value: str) -> Markup:
    """Nothing in it is markup, and nothing in it hides or turns text around."""
    return Markup(html.escape(escaped(value), quote=True))


def joined(*content: Content) -> Markup:
    return Markup("".join(part if isinstance(part, Markup) else text(part) for part in content if part is not None))


def element(name: str, /, *content: Content, **attributes: object) -> Markup:
    """Attributes that are None stay away; `class_` is class, and `stroke_width` is stroke-width."""
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not content:
        return Markup(f"<{name}{named}/>")
    return Markup(f"<{name}{named}>{joined(*content)}</{name}>")


def stylesheet(css: str) -> Markup:
    """A file of ours, in which nothing is escaped."""
    return Markup(f"<style>{css}</style>")


def table(caption: str, heads: list[str], rows: list[list[Content]], words: Collection[int] = (0,)) -> Markup:
    """The first column names its row; columns that are not of `words` are numbers."""

    def kind(column: int) -> str | None:
        return None if column in words else "number"

    head = [element("th", each, scope="col", class_=kind(column)) for column, each in enumerate(heads)]
    body = [
        element(
            "tr",
            *(
                element("td", cell, class_=kind(column)) if column else element("th", cell, scope="row")
                for column, cell in enumerate(row)
            ),
        )
        for row in rows
    ]
    whole = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *body),
    )
    # What is wider than the page is moved inside, by the keyboard too.
    return element("div", whole, class_="wide", role="region", aria_label=caption, tabindex=0)
