"""The body of `POST /`, as its old clients write it."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from app.api.http.body_model import Body, Items
from app.api.http.field_json_schemas import PAIR, SEED, OrFalsy, accepts
from app.contract.requests import LEAST_TEMPERATURE


def _falsy_means(default: Any) -> BeforeValidator:
    """The old contract: null, 0, "", [] and the like mean the default."""
    return BeforeValidator(lambda value: value or default)


def _pair(turn: Any) -> Any:
    if isinstance(turn, list) and len(turn) != 2:
        raise PydanticCustomError("pair", "must have two strings, the question and the answer")
    return turn


Turn = Annotated[Items[str], BeforeValidator(_pair), accepts(PAIR)]
_MOST_TURNS = 4096


class ClassicBody(Body):
    """Bounds are wide: they refuse what no model can use, not what is unusual."""

    prompt: str = Field(min_length=1, description="The user's turn.")
    history: Annotated[Items[Turn], _falsy_means([]), OrFalsy()] = Field(
        default_factory=list,
        max_length=_MOST_TURNS,
        description="Earlier turns, oldest first: pairs of a question and its answer.",
    )
    max_length: Annotated[int, _falsy_means(1024), OrFalsy()] = Field(
        1024, ge=1, le=1_000_000, description="The most new tokens, despite its name."
    )
    top_k: Annotated[int, _falsy_means(5), OrFalsy()] = Field(
        5, ge=1, le=1_000_000, description="Sample from this many most likely tokens."
    )
    top_p: Annotated[float, _falsy_means(0.7), OrFalsy()] = Field(
        0.7, gt=0, le=1, description="Sample from the most likely tokens that together have this probability."
    )
    temperature: Annotated[float, _falsy_means(0.95), OrFalsy()] = Field(
        0.95, ge=LEAST_TEMPERATURE, le=100, description="Lower values prefer the most likely tokens more strongly."
    )
    repetition_penalty: Annotated[float, _falsy_means(1.1), OrFalsy()] = Field(
        1.1,
        ge=0.01,
        le=100,
        description="Divides the scores of tokens that prompt or answer contain; 1 changes nothing.",
    )
    seed: int | None = Field(
        None,
        ge=-1,
        lt=2**63,
        description=SEED,
    )
    stream: Annotated[bool, _falsy_means(False), OrFalsy()] = Field(
        False, description="Answer as server-sent events: pieces of the text, and at the end the whole answer."
    )
