"""The fields that both completion routes share, and the sampling parameters made of them.

OpenAI's fields have OpenAI's bounds. top_k, min_p, repetition_penalty, min_tokens and ignore_eos are additions of
other servers, with Hugging Face semantics.
"""

import re
import secrets
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.api.http.body_model import Items, NullableBody
from app.api.http.field_json_schemas import SEED, TOKEN_LIMIT, accepts, labels, numbers_by_token, text_or_list
from app.api.openai.bodies.model_field import ForModel
from app.api.openai.bodies.neutral_values import asks_for_nothing
from app.contract.engine import ModelInfo, SamplingDefaults
from app.contract.errors import InvalidRequest
from app.contract.requests import LEAST_TEMPERATURE, GenerationRequest, Operation, SamplingParams

MOST_CHOICES = 16
MOST_STOPS = 16
LONGEST_STOP = 256  # characters
MOST_BIASES = 300  # OpenAI's
MOST_METADATA, LONGEST_KEY, LONGEST_VALUE = 16, 64, 512  # OpenAI's
_LEAST_TOP_P = 1e-9  # keeps the most likely token alone
_TOKEN_ID = re.compile(r"[0-9]{1,7}")


def _stop_list(value: Any) -> Any:
    """Without empty strings, which ask for nothing."""
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or len(value) > MOST_STOPS or not all(isinstance(stop, str) for stop in value):
        raise PydanticCustomError("stop", f"must be a string or a list of up to {MOST_STOPS} strings")
    if any(len(stop) > LONGEST_STOP for stop in value):
        raise PydanticCustomError("stop", f"must have strings of at most {LONGEST_STOP} characters")
    return [stop for stop in value if stop]


def limit_or_none(value: Any) -> Any:
    return None if value == -1 else value


TokenLimit = Annotated[int | None, BeforeValidator(limit_or_none), accepts(TOKEN_LIMIT)]
"""The most new tokens; None and -1: as many as fit."""


def _biases(value: Any) -> Any:
    """Checked by hand: an error of pydantic's types would repeat the client's keys."""
    value = {} if value == [] else value  # llama.cpp has lists of pairs
    if not isinstance(value, dict) or len(value) > MOST_BIASES:
        raise PydanticCustomError("bias", f"must be an object of up to {MOST_BIASES} entries")
    for token, bias in value.items():
        number = isinstance(bias, int | float) and not isinstance(bias, bool)
        if not _TOKEN_ID.fullmatch(token) or not number or not -100 <= bias <= 100:
            raise PydanticCustomError("bias", "must map token ids, as strings, to numbers from -100 to 100")
    biases = {int(token): float(bias) for token, bias in value.items()}
    if len(biases) != len(value):
        raise PydanticCustomError("bias", "must not name a token id twice")
    return biases


def _labels(value: Any) -> Any:
    if isinstance(value, dict) and len(value) <= MOST_METADATA and all(map(_is_label, value, value.values())):
        return value
    raise PydanticCustomError(
        "metadata",
        f"must be an object of up to {MOST_METADATA} entries, with keys of up to {LONGEST_KEY} characters and "
        f"strings of up to {LONGEST_VALUE}",
    )


def _is_label(name: str, value: Any) -> bool:
    return len(name) <= LONGEST_KEY and isinstance(value, str) and len(value) <= LONGEST_VALUE


def _off(value: bool) -> bool:
    if value:
        raise PydanticCustomError("off", "must be false: this server does not support it")
    return value


StopList = Annotated[Items[str], BeforeValidator(_stop_list), accepts(text_or_list(0, LONGEST_STOP, MOST_STOPS))]
Off = Annotated[bool, AfterValidator(_off), accepts({"const": False})]
Labels = Annotated[
    dict[str, str], BeforeValidator(_labels), accepts(labels(MOST_METADATA, LONGEST_KEY, LONGEST_VALUE))
]


class StreamOptions(NullableBody):
    include_usage: bool = Field(False, description="A last chunk with usage and timings, and no choices.")
    # vLLM's; load generators send it.
    continuous_usage_stats: bool = Field(False, description="The usage so far in every chunk.")
    # OpenAI's padding against eavesdroppers who count bytes.
    include_obfuscation: Off = Field(False, description="Only false: chunks are not padded.")


class AnswerBody(ForModel):
    """Asks for an answer. Fields that this server does not have may ask for nothing."""

    @classmethod
    def is_absent(cls, name: str, value: Any, *, known: bool) -> bool:
        return value is None or (not known and asks_for_nothing(name, value))


Temperature = Annotated[
    float | None,
    Field(
        ge=0,
        le=2,
        description="0 takes the most likely token. Absent: the value of the model's own generation config.",
    ),
]
TopP = Annotated[
    float | None,
    Field(
        ge=0,
        le=1,
        description="Sample from the most likely tokens that together have this probability. 0: from the most likely "
        "one alone.",
    ),
]
TopK = Annotated[
    int | None,
    Field(ge=-1, le=1_000_000, description="Sample from this many most likely tokens; 0 and -1 mean all."),
]


class SamplingFields(AnswerBody):
    """Both completion routes have these fields."""

    max_tokens: TokenLimit = Field(
        None,
        ge=1,
        le=1_000_000,
        description="The most new tokens. A number that does not fit beside the prompt is reduced to what does. "
        "-1: as many as fit. Absent: the same, but 16 for a plain completion.",
    )
    min_tokens: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="No stop token before this many new tokens; a stop string still ends the answer. Not with "
        "response_format or tools.",
    )
    ignore_eos: bool = Field(
        False, description="Continue to max_tokens, past the model's stop tokens. Not with response_format or tools."
    )
    temperature: Temperature = None
    top_p: TopP = None
    top_k: TopK = None
    min_p: float = Field(
        0.0, ge=0, le=1, description="Drop tokens that are less likely than this share of the most likely one."
    )
    repetition_penalty: float = Field(
        1.0,
        ge=0.01,
        le=100,
        description="Divides the scores of tokens that prompt or answer contain; 1 changes nothing.",
    )
    presence_penalty: float = Field(
        0.0, ge=-2, le=2, description="Subtracted from the score of every token that the answer contains."
    )
    frequency_penalty: float = Field(
        0.0,
        ge=-2,
        le=2,
        description="Subtracted from the score of a token for each time that the answer contains it.",
    )
    logit_bias: Annotated[dict[int, float], BeforeValidator(_biases), accepts(numbers_by_token(MOST_BIASES, 100))] = (
        Field(
            default_factory=dict,
            description="Maps token ids, as strings, to numbers that are added to their scores; 100 forces a token "
            "and -100 forbids it.",
        )
    )
    seed: int | None = Field(
        None,
        ge=-(2**63),
        lt=2**63,
        description=SEED,
    )
    n: int = Field(1, ge=1, le=MOST_CHOICES, description="The number of answers to each prompt.")
    stop: StopList = Field(
        default_factory=list,
        description="The answer ends before any of these strings, at most 16, also within JSON. Tool calls are "
        "not searched for them.",
    )
    stream: bool = Field(False, description="Answer as server-sent events: chunks, and `[DONE]` at the end.")
    stream_options: StreamOptions | None = Field(None, description="Without effect where nothing is streamed.")
    user: str | None = Field(None, max_length=512, description="Logged, else without effect.")
    metadata: Labels = Field(default_factory=dict, description="Logged, else without effect.")
    safety_identifier: str | None = Field(None, max_length=512, description="Without effect.")
    prompt_cache_key: str | None = Field(
        None, max_length=512, description="Without effect: cached prefixes are found without it."
    )
    prompt_cache_retention: str | None = Field(None, max_length=64, description="Without effect, as the key.")
    prediction: dict[str, Any] | None = Field(None, description="Without effect: answers are not guessed in advance.")
    store: bool = Field(False, description="Without effect: nothing is stored.")
    service_tier: str | None = Field(None, max_length=64, description="Without effect: there is one tier.")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        limit = self.token_limit
        if limit is not None and self.min_tokens > limit:
            raise InvalidRequest("min_tokens must not be greater than max_tokens.", param="min_tokens")
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens

    def request(
        self, request_id: str, operation: Operation, tenant: str, served: ModelInfo, top_logprobs: int | None
    ) -> GenerationRequest:
        """The request without messages and prompt. Raises InvalidRequest, ModelNotFound."""
        self.refuse_other_models(served)
        return GenerationRequest(
            id=request_id,
            operation=operation,
            sampling=self.sampling(served, top_logprobs),
            max_tokens=self.token_limit,
            stop=tuple(self.stop),
            ignore_eos=self.ignore_eos,
            stream=self.stream,
            n=self.n,
            tenant=tenant,
            user=self.user,
            metadata=self.metadata,
        )

    def sampling(self, served: ModelInfo, top_logprobs: int | None) -> SamplingParams:
        """Absent fields get the values of the model's own generation config. Raises InvalidRequest."""
        if any(token >= served.vocabulary for token in self.logit_bias):
            raise InvalidRequest(
                f"logit_bias has an unknown token id: ids are 0 to {served.vocabulary - 1}.", param="logit_bias"
            )
        defaults = served.defaults or SamplingDefaults()
        given = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        left_out = frozenset() if served.defaults else {name for name, value in given.items() if value is None}
        temperature = defaults.temperature if self.temperature is None else self.temperature
        return SamplingParams(
            seed=secrets.randbits(63) if self.seed in (None, -1) else self.seed % 2**63,
            temperature=temperature if temperature >= LEAST_TEMPERATURE else 0.0,
            top_p=defaults.top_p if self.top_p is None else max(self.top_p, _LEAST_TOP_P),
            top_k=max(0, defaults.top_k if self.top_k is None else self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
            min_tokens=self.min_tokens,
            top_logprobs=top_logprobs,
            left_out=frozenset(left_out),
        )
