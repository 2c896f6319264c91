"""Which web pages of other origins may use this server (CORS_ORIGINS)."""

from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

EXPOSED = (
    "x-request-id",
    "retry-after",
    "x-should-retry",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
)
"""Headers of answers that these pages may read. nginx has the same list for its own errors
(nginx/templates/server.conf.template)."""


def cors(origins: Sequence[str]) -> list[Middleware]:
    """Nothing without origins. It belongs outside of the errors and keys: every error has to carry the headers, or
    a browser hides it from the page; and the question that a browser asks first has no key.

    A page sends its key itself, in a header. No cookies are involved, so any origin may be allowed.
    """
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST"),
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=EXPOSED,
        )
    ]
