"""Bytes for people: binary units, because GPUs are sold and reported in them."""

import re

MIB = 1024**2
GIB = 1024**3
_UNITS = {"MIB": MIB, "GIB": GIB, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(MiB|GiB|MB|GB)\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of "24GiB", "24 GB" or "24564MiB". Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size: write for example 24GiB, 24GB or 24564MiB")
    return round(float(match[1]) * _UNITS[match[2].upper()])


def gib(size: int) -> str:
    """'29.26 GiB'."""
    return f"{size / GIB:.2f} GiB"
