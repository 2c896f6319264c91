"""The parts of every answer of OpenAI's API beside its choices: header, usage and timings."""

import hashlib
import time
import uuid
from functools import cache
from importlib.metadata import version

from app.api.openai.responses import Counts, Header, UsageCounts
from app.contract.engine import ModelInfo
from app.contract.events import Timings, Usage


class HeaderFactory:
    """Makes headers with ids that never repeat. `prefix` says what kind of answer it is."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def new(self, model: ModelInfo) -> Header:
        return {
            "id": f"{self._prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model.name,
            "system_fingerprint": fingerprint(model.name),
        }


@cache
def fingerprint(model: str) -> str:
    """Changes when the same seed may give another answer: with the model, or with the libraries that compute it."""
    libraries = " ".join(version(name) for name in ("torch", "transformers", "tokenizers"))
    return f"fp_{hashlib.sha256(f'{model} {libraries}'.encode()).hexdigest()[:12]}"


def usage_counts(usage: Usage) -> UsageCounts:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def counts(usage: Usage, timings: Timings, choices: int) -> Counts:
    """Usage and timings of an answer with this number of choices."""
    after_first = max(0, usage.completion_tokens - choices)
    speed = round(after_first / timings.decode, 3) if after_first and timings.decode > 0 else None
    return {
        "usage": usage_counts(usage),
        "timings": {
            "queue_seconds": round(timings.queued, 6),
            "prefill_seconds": round(timings.computed, 6),
            "decode_seconds": round(timings.decode, 6),
            "tokens_per_second": speed,
        },
    }
