"""What every answer of OpenAI's API holds: its head, usage, timings."""

import hashlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from app.contract.engine import ModelInfo
from app.contract.messages import Timings, Usage


@dataclass(frozen=True, slots=True)
class Head:
    """The same in an answer and in every chunk of a stream."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    def of(self, kind: str, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
            "choices": list(choices),
        }


class Heads:
    """Makes them, with ids that never repeat: `prefix` tells the kind of answer."""

    def __init__(self, prefix: str, model: ModelInfo) -> None:
        self._prefix = prefix
        self._model = model.name
        self._fingerprint = fingerprint(model)

    def new(self) -> Head:
        return Head(f"{self._prefix}-{uuid.uuid4().hex}", int(time.time()), self._model, self._fingerprint)


def fingerprint(model: ModelInfo) -> str:
    """Changes when the same seed may give another answer: with the model, or with the libraries that compute it."""
    libraries = " ".join(version(name) for name in ("torch", "transformers", "tokenizers"))
    return f"fp_{hashlib.sha256(f'{model.name} {libraries}'.encode()).hexdigest()[:12]}"


def usage_object(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def timings_object(timings: Timings, usage: Usage, choices: int) -> dict[str, float | None]:
    """Our addition to OpenAI's shape, in seconds: from arrival to the first computed prompt token, from there to the
    first new token, from there to the last one.

    `tokens_per_second` is the speed of decoding: what came after each choice's first token, by the decode time.
    """
    after_first = max(0, usage.completion_tokens - choices)
    return {
        "queue_seconds": round(timings.queued, 6),
        "prefill_seconds": round(timings.prefill, 6),
        "decode_seconds": round(timings.decode, 6),
        "tokens_per_second": round(after_first / timings.decode, 3) if after_first and timings.decode > 0 else None,
    }
