"""An answer of `/infill`: whole, or as a stream of pieces."""

from collections.abc import AsyncGenerator, Mapping, Sequence

from app.api.http.sse import HEARTBEAT, frame
from app.api.infill.objects import InfillAnswer, InfillPiece, InfillTimings
from app.api.openai.errors import openai_error
from app.contract.events import Finished, TextEvent
from app.serving.choices import Choices


class InfillOutput:
    """Writes one answer. `fields`: what is wanted of it, all if empty."""

    heartbeat = HEARTBEAT

    def __init__(self, model: str, fields: Sequence[str]) -> None:
        self._model = model
        self._fields = fields

    async def whole(self, choices: Choices) -> Mapping[str, object]:
        """Raises the error that the answer ended with."""
        text: list[str] = []
        answer: Mapping[str, object] = {}
        async for _, event in choices:
            if isinstance(event, TextEvent):
                text.append(event.text)
            elif isinstance(event, Finished):
                if event.failure is not None:
                    raise event.failure
                answer = self._end("".join(text), event)
        return answer

    async def frames(self, choices: Choices) -> AsyncGenerator[str, None]:
        """There is no [DONE]: the last event says `stop`."""
        async for _, event in choices:
            if isinstance(event, TextEvent):
                yield frame(_piece(event.text, choices))
            elif isinstance(event, Finished):
                failure = event.failure
                yield frame(openai_error(failure) if failure else self._end("", event))

    def _end(self, content: str, finished: Finished) -> Mapping[str, object]:
        usage = finished.usage
        answer: InfillAnswer = {
            "index": 0,
            "content": content,
            "stop": True,
            "model": self._model,
            "tokens_predicted": usage.completion_tokens,
            "tokens_evaluated": usage.prompt_tokens,
            "tokens_cached": usage.cached_tokens,
            "truncated": False,
            "timings": _timings(finished),
        }
        if not self._fields:
            return answer
        alone = {f"timings/{name}": value for name, value in answer["timings"].items()}
        return {name: value for name, value in {**answer, **alone}.items() if name in self._fields}


def _piece(text: str, choices: Choices) -> InfillPiece:
    usage = choices.usage()
    return {
        "index": 0,
        "content": text,
        "stop": False,
        "tokens_predicted": usage.completion_tokens,
        "tokens_evaluated": usage.prompt_tokens,
    }


def _timings(finished: Finished) -> InfillTimings:
    usage, timings = finished.usage, finished.timings
    computed = usage.prompt_tokens - usage.cached_tokens
    prefill, decode = timings.computed * 1000, timings.decode * 1000
    return {
        "cache_n": usage.cached_tokens,
        "prompt_n": computed,
        "prompt_ms": round(prefill, 3),
        "prompt_per_token_ms": _ratio(prefill, computed),
        "prompt_per_second": _ratio(computed * 1000, prefill),
        "predicted_n": usage.completion_tokens,
        "predicted_ms": round(decode, 3),
        "predicted_per_token_ms": _ratio(decode, usage.completion_tokens),
        "predicted_per_second": _ratio(usage.completion_tokens * 1000, decode),
    }


def _ratio(amount: float, per: float) -> float:
    """0 where there is nothing to divide by: editors print these as numbers."""
    return round(amount / per, 3) if per > 0 else 0.0
