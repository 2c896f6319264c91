"""The terms of a tenant: what it may have whatever its share is. They come from its API key."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """None: no limit but that of the server."""

    requests: int | None = None  # inside at once
    prompt_tokens: int | None = None  # of the requests inside, together


NO_TERMS = Terms()

TermsOf = Callable[[str], Terms]
"""The terms of a tenant, by its name."""


def no_terms(_tenant: str) -> Terms:
    """Those of a server without keys."""
    return NO_TERMS
