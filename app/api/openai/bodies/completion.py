"""The body of `/v1/completions`."""

from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.api.http.body_model import Items, whole_items
from app.api.http.field_json_schemas import LOGPROBS, PROMPT, TOKEN_LIMIT_OR_ZERO, accepts
from app.api.openai.bodies.sampling_fields import MOST_CHOICES, SamplingFields, limit_or_none
from app.contract.engine import ModelInfo
from app.contract.errors import InvalidRequest, UnsupportedField
from app.contract.requests import GenerationRequest, Operation

MOST_ANSWERS = 64
"""The most answers to all prompts of one request together."""

_DEFAULT_TOKENS = 16  # OpenAI's
_FORMS = "must be a string, a list of strings, a list of token ids, or a list of such lists"

RawPrompt = str | tuple[int, ...]


def _prompts(value: Any) -> list[RawPrompt]:
    value = whole_items(value)
    if isinstance(value, str) or _is_tokens(value):
        value = [value]
    if not isinstance(value, list):
        raise PydanticCustomError("prompt", _FORMS)
    if len(value) > MOST_ANSWERS:
        raise PydanticCustomError("prompt", f"must have at most {MOST_ANSWERS} prompts")
    if not value or [] in value:
        raise PydanticCustomError("prompt", "must not be empty")
    if all(isinstance(one, str) for one in value):
        return value
    lists = [whole_items(one) for one in value]
    if all(_is_tokens(one) for one in lists):
        return [tuple(one) for one in lists]
    raise PydanticCustomError("prompt", _FORMS)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


def _unless_false(value: Any) -> Any:
    """Newer clients send a flag, as for a chat."""
    return None if value is False else value


class CompletionBody(SamplingFields):
    """The fields of a plain completion beside those of every completion."""

    prompt: Annotated[Items[Any], BeforeValidator(_prompts), accepts(PROMPT)] = Field(
        description="A text, token ids, or a list of either. Control tokens in a text are read as text, "
        "but for the model's own for a gap. Empty only "
        "with a suffix."
    )
    suffix: str | None = Field(
        None,
        description="The text after the gap that the answer fills. A 400 where the model's tokenizer has no tokens "
        "for it.",
    )
    echo: bool = Field(
        False,
        description="Put the prompt before each answer; with logprobs its tokens have theirs, of which the first is "
        "null.",
    )
    max_tokens: Annotated[int | None, BeforeValidator(limit_or_none), accepts(TOKEN_LIMIT_OR_ZERO)] = Field(
        None,
        ge=0,
        le=1_000_000,
        description="As for a chat, but 16 if absent. 0 computes the prompt, for its log-probabilities.",
    )
    logprobs: Annotated[int | None, BeforeValidator(_unless_false), accepts(LOGPROBS)] = Field(
        None,
        ge=0,
        le=5,
        description="The log-probability of each chosen token and of this many most likely ones: the model's own, "
        "before temperature, penalties and biases.",
    )
    best_of: int | None = Field(None, ge=1, le=MOST_CHOICES, description="Must be equal to n.")

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if self.best_of not in (None, self.n):
            raise UnsupportedField("best_of is supported only if it is equal to n.", param="best_of")
        if len(self.prompt) * self.n > MOST_ANSWERS:
            raise InvalidRequest(
                f"prompt and n together ask for more than {MOST_ANSWERS} answers.",
                param="prompt" if self.n == 1 else "n",
            )
        if self.echo and self.logprobs is not None and self.suffix is not None:
            raise UnsupportedField("logprobs is not supported together with echo and suffix.", param="logprobs")
        if self.suffix is None and not all(self.prompt):
            raise InvalidRequest("prompt must not be empty without a suffix.", param="prompt")
        if self.suffix is not None and not all(isinstance(prompt, str) for prompt in self.prompt):
            raise InvalidRequest("suffix requires a prompt that is text, not token ids.", param="suffix")
        return self

    @property
    def token_limit(self) -> int | None:
        return self.max_tokens if "max_tokens" in self.model_fields_set else _DEFAULT_TOKENS

    def generations(self, request_id: str, tenant: str, served: ModelInfo) -> list[GenerationRequest]:
        """One for each prompt. Raises InvalidRequest, ModelNotFound."""
        request = self.request(request_id, Operation.TEXT_COMPLETION, tenant, served, self.logprobs)
        for prompt in self.prompt:
            if not isinstance(prompt, str) and not 0 <= min(prompt) <= max(prompt) < served.vocabulary:
                raise InvalidRequest(
                    f"prompt has an unknown token id: ids are 0 to {served.vocabulary - 1}.", param="prompt"
                )
        scored = self.logprobs if self.echo else None
        return [replace(request, prompt=prompt, suffix=self.suffix, prompt_logprobs=scored) for prompt in self.prompt]
