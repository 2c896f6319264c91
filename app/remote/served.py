"""What another server serves, and which of the others' additions to OpenAI's API it has, from its list of models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

OURS = "local"
"""`owned_by` of another of these stacks."""

_VLLM, _SGLANG, _LLAMA_CPP, _LLAMA_CPP_PYTHON = "vllm", "sglang", "llamacpp", "me"
_LACKING: Mapping[str, frozenset[str]] = {
    _LLAMA_CPP: frozenset({"min_tokens"}),
    _LLAMA_CPP_PYTHON: frozenset({"ignore_eos"}),
}
"""Fields that a server would leave out of its answer without a word, by our names."""


class _Listed(BaseModel):
    id: str
    owned_by: str = ""
    max_model_len: int | None = None
    meta: dict[str, Any] | None = None  # llama.cpp's


class _List(BaseModel):
    data: list[_Listed]


@dataclass(frozen=True, slots=True)
class Served:
    """A model, as its server lists it. `owner` is what the server says of itself."""

    name: str
    owner: str = ""
    context_tokens: int = 0  # 0: it does not say

    @property
    def counts_as_it_goes(self) -> bool:
        """Tells the tokens so far in every chunk, if asked to."""
        return self.owner in {OURS, _VLLM, _SGLANG}

    @property
    def fills_gaps(self) -> bool:
        """Has `suffix` for models that fill in the middle; servers that ignore it would answer something else."""
        return self.owner == OURS

    @property
    def salts_its_cache(self) -> bool:
        """Keeps cached prompts of different `cache_salt` apart."""
        return self.owner == _VLLM

    @property
    def as_many_as_fit(self) -> int | None:
        """The `max_tokens` of a plain completion that has no limit."""
        return -1 if self.owner in {OURS, _LLAMA_CPP} else None

    @property
    def every_token(self) -> int:
        """The `top_k` that filters nothing."""
        return -1 if self.owner in {_VLLM, _SGLANG} else 0

    @property
    def filters_by_default(self) -> bool:
        """Where `min_p` and a repetition penalty are absent they are not off."""
        return self.owner in {_LLAMA_CPP, _LLAMA_CPP_PYTHON}

    @property
    def repetition_penalty(self) -> str:
        """Its name."""
        return "repeat_penalty" if self.filters_by_default else "repetition_penalty"

    @property
    def requires_calls(self) -> bool:
        """Keeps to a `tool_choice` that requires a call."""
        return self.owner != _LLAMA_CPP_PYTHON

    @property
    def holds_strict_calls(self) -> bool:
        """Only of tools that are `strict` it holds calls to the functions that there are, and arguments to their
        schema."""
        return self.owner == _VLLM

    @property
    def ignores_keywords(self) -> bool:
        """Leaves out, without a word, keywords of a schema that it cannot enforce, as `not` and `if`."""
        return self.owner == _VLLM

    @property
    def has_schemas_of_objects(self) -> bool:
        """Takes a schema in the form `json_object`, and not as `json_schema`."""
        return self.owner == _LLAMA_CPP_PYTHON

    @property
    def lacks(self) -> frozenset[str]:
        return _LACKING.get(self.owner, frozenset())


def served_by(body: bytes, wanted: str | None) -> Served | None:
    """From the body of `GET /models`: the wanted model, or the first one; None when it is not there, or the body is
    no such list."""
    try:
        listed = _List.model_validate_json(body).data
    except ValidationError:
        return None
    for one in listed:
        if wanted is None or one.id.casefold() == wanted.casefold():
            return Served(one.id, one.owned_by, _context(one))
    return None


def _context(listed: _Listed) -> int:
    trained = (listed.meta or {}).get("n_ctx", 0)
    return max(0, listed.max_model_len or (trained if isinstance(trained, int) else 0))
