"""The bodies of `/infill`'s answers."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict


class InfillTimings(TypedDict):
    """Tokens, milliseconds and speeds, of the prompt without what was cached and of the answer."""

    cache_n: Annotated[int, Field(description="Prompt tokens that were found in the cache and not computed.")]
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class InfillPiece(TypedDict):
    """An event of a stream before its last one."""

    index: int
    content: str
    stop: Literal[False]
    tokens_predicted: int
    tokens_evaluated: int


_Alone = TypedDict(
    "_Alone",
    {
        "timings/cache_n": int,
        "timings/prompt_n": int,
        "timings/prompt_ms": float,
        "timings/prompt_per_token_ms": float,
        "timings/prompt_per_second": float,
        "timings/predicted_n": int,
        "timings/predicted_ms": float,
        "timings/predicted_per_token_ms": float,
        "timings/predicted_per_second": float,
    },
    total=False,
)


class InfillAnswer(_Alone, total=False):
    """A whole answer, or a stream's last event: these fields, or the ones that response_fields names."""

    index: int
    content: str
    stop: Literal[True]
    model: str
    tokens_predicted: Annotated[int, Field(description="New tokens.")]
    tokens_evaluated: Annotated[int, Field(description="Tokens of the prompt.")]
    tokens_cached: Annotated[int, Field(description="Those of them that were found in the cache.")]
    truncated: Annotated[Literal[False], Field(description="Never: a prompt that is too long is a 400.")]
    timings: InfillTimings
