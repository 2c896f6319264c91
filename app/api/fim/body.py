"""The body of `/v1/fim/completions`, Mistral's API for editors."""

from dataclasses import replace
from typing import Self

from pydantic import Field, model_validator

from app.api.openai.bodies.sampling_fields import SamplingFields
from app.contract.engine import ModelInfo
from app.contract.errors import InvalidRequest
from app.contract.requests import GenerationRequest, Operation


class FimBody(SamplingFields):
    """The fields of a gap beside those of every completion."""

    prompt: str = Field(description="The text before the gap. Empty only with a suffix.")
    suffix: str | None = Field(
        None,
        description="The text after the gap. A 400 where the model's tokenizer has no tokens for it. Absent: the "
        "text is continued.",
    )
    random_seed: int | None = Field(None, ge=-1, lt=2**63, description="As seed, which it replaces.")

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if not self.prompt and self.suffix is None:
            raise InvalidRequest("prompt must not be empty without a suffix.", param="prompt")
        return self

    def generation(self, request_id: str, tenant: str, served: ModelInfo) -> GenerationRequest:
        """Raises InvalidRequest, ModelNotFound."""
        seed = self.seed if self.random_seed is None else self.random_seed
        body = self.model_copy(update={"seed": seed})
        request = body.request(request_id, Operation.TEXT_COMPLETION, tenant, served, None)
        return replace(request, prompt=self.prompt, suffix=self.suffix)
