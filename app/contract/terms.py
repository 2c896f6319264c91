"""The terms of a tenant, from its API key: what it may have whatever its share is, and what is logged of it."""

from collections.abc import Callable
from dataclasses import dataclass

from app.contract.options import LogContent


@dataclass(frozen=True, slots=True)
class Terms:
    """None: as the server has it for everybody."""

    requests: int | None = None  # inside at once
    prompt_tokens: int | None = None  # of the requests inside, together
    log_content: LogContent | None = None  # no more than this, and no more than the server logs of others


NO_TERMS = Terms()

TermsOf = Callable[[str], Terms]
"""The terms of a tenant, by its name."""


def no_terms(_tenant: str) -> Terms:
    """Those of a server without keys."""
    return NO_TERMS
