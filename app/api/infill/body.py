"""The body of `/infill`, llama.cpp's API for editors."""

from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.api.http.body_model import Items, TolerantBody
from app.api.http.field_json_schemas import accepts, text_or_list
from app.api.openai.bodies.sampling_fields import SamplingFields
from app.contract.engine import ModelInfo
from app.contract.requests import GenerationRequest, LineLimits, Operation

NAMES = {"prompt": "input_prefix", "suffix": "input_suffix"}
"""From the fields that the service names in errors to those of this body."""

_MOST_SNIPPETS = 1024
_MOST_SAMPLERS = 32
_MOST_FIELDS = 64
_LONGEST_NAME = 64
_LONGEST_WAIT = 86_400_000  # milliseconds


def _limit(value: Any) -> Any:
    return None if value == -1 else value


def _samplers(value: Any) -> Any:
    """A list, or one letter for each."""
    return [value] if isinstance(value, str) else value


Milliseconds = Annotated[int, Field(ge=-1, le=_LONGEST_WAIT)]
Name = Annotated[str, Field(max_length=_LONGEST_NAME)]
Samplers = Annotated[
    Items[Name],
    Field(max_length=_MOST_SAMPLERS),
    BeforeValidator(_samplers),
    accepts(text_or_list(0, _LONGEST_NAME, _MOST_SAMPLERS)),
]


class Snippet(TolerantBody):
    """A part of another file."""

    text: str
    filename: str = ""

    def written(self) -> str:
        """As DeepSeek-Coder was shown the files of a repository: each below a comment with its name."""
        return f"#{self.filename}\n{self.text}\n" if self.filename else f"{self.text}\n"


class InfillBody(SamplingFields):
    """The fields of a gap beside those of every completion."""

    input_prefix: str = Field(description="The text before the gap.")
    input_suffix: str = Field(
        description="The text after the gap. A 400 where the model's tokenizer has no tokens for it."
    )
    input_extra: Items[Snippet] = Field(
        default_factory=list,
        max_length=_MOST_SNIPPETS,
        description="Parts of other files, which the model sees before everything else.",
    )
    prompt: str = Field("", description="How the text of the gap begins; the answer continues it.")
    n: int = Field(1, ge=1, le=1, description="Only 1.")
    n_predict: Annotated[
        int | None,
        BeforeValidator(_limit),
        accepts({"anyOf": [{"type": "integer", "minimum": -1, "maximum": 1_000_000}, {"type": "null"}]}),
    ] = Field(
        None,
        ge=0,
        le=1_000_000,
        description="The most new tokens, instead of max_tokens. 0: read the prompt into the cache, and answer "
        "nothing. Absent, -1: as many as fit.",
    )
    n_indent: int = Field(
        0,
        ge=0,
        le=1000,
        description="The answer ends before a line, other than its first, that begins with fewer spaces and tabs.",
    )
    t_max_predict_ms: Milliseconds = Field(
        0,
        description="The answer ends with the first line that is complete after this many milliseconds. 0, -1: off.",
    )
    t_max_prompt_ms: Milliseconds = Field(0, description="Without effect, as in llama.cpp's server.")
    id_slot: int = Field(-1, ge=-1, le=1_000_000, description="Without effect: cached prompts are found without it.")
    samplers: Samplers = Field(
        default_factory=list, description="Without effect: the sampling fields say what is applied."
    )
    response_fields: Annotated[Items[Name], Field(max_length=_MOST_FIELDS)] = Field(
        default_factory=list,
        description="Only these fields of the answer; `timings/prompt_n` is one of `timings`. Empty: all.",
    )

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens if self.n_predict is None else self.n_predict

    def generation(self, request_id: str, tenant: str, served: ModelInfo) -> GenerationRequest:
        """Raises InvalidRequest, ModelNotFound."""
        request = self.request(request_id, Operation.TEXT_COMPLETION, tenant, served, None)
        return replace(
            request,
            prompt=self.input_prefix,
            suffix=self.input_suffix,
            context="".join(snippet.written() for snippet in self.input_extra),
            begun=self.prompt,
            lines=LineLimits(self.n_indent, self.t_max_predict_ms / 1000 if self.t_max_predict_ms > 0 else None),
        )
