"""Any value as plain JSON of limited size, so that every log line can be rendered."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

MAX_ITEMS = 512  # the largest logit_bias has 300
MAX_DEPTH = 4
_MAX_INTEGER = 2**63 - 1  # the largest that orjson renders

Plain = str | int | float | bool | None | list["Plain"] | dict[str, "Plain"]


def plain(value: object, limit: int, depth: int = MAX_DEPTH) -> Plain:
    """`value` with every string at most `limit` characters long, and every container at most MAX_ITEMS."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= _MAX_INTEGER else shorten(str(value), limit)
    if isinstance(value, str):
        return shorten(value, limit)
    if isinstance(value, bytes):
        return shorten(value[:limit].decode("utf-8", "backslashreplace"), limit)
    return _container(value, limit, depth - 1) if depth > 0 else shorten(repr(value), limit)


def _container(value: object, limit: int, depth: int) -> Plain:
    if isinstance(value, Mapping):
        items = list(value.items())[:MAX_ITEMS]
        return {shorten(str(key), limit): plain(item, limit, depth) for key, item in items}
    if isinstance(value, Sequence | AbstractSet):
        return [plain(item, limit, depth) for item in list(value)[:MAX_ITEMS]]
    return shorten(repr(value), limit)


def shorten(text: str, limit: int) -> str:
    """The first `limit` characters, and how many more there are. Unpaired surrogates are escaped, because UTF-8 has
    none."""
    return shorten_as(text[:limit], len(text) - limit)


def shorten_as(kept: str, cut: int) -> str:
    """What is kept of a text, of which so many characters are not."""
    if not kept.isascii():
        kept = kept.encode("utf-8", "backslashreplace").decode()
    return f"{kept}… [{cut} more characters]" if cut > 0 else kept


def shorten_middle(text: str, limit: int) -> str:
    """As `shorten`, but removes the middle: the ends of a traceback are the most useful parts."""
    cut = len(text) - limit
    if cut <= 0:
        return shorten(text, limit)
    half = limit // 2
    return shorten(text[:half], half) + f"\n… [{cut} more characters] …\n" + shorten(text[-half:], half)
