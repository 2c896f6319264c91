"""An answer in OpenAI's shapes, whole or as a stream of chunks, for whichever route it is."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response

from app.api.http.sse import DONE, EventStream, frame
from app.api.openai.bodies.sampling_fields import StreamOptions
from app.api.openai.errors import openai_error
from app.api.openai.shapes import Head, timings_object, usage_object
from app.contract.messages import Finished, GenerationRequest, Piece
from app.serving.choices import Choices, overall, summed_usage
from app.serving.service import GenerationService


class Writer(Protocol):
    """What a route's choices look like. Belongs to one answer: it may remember how far it is."""

    kind: str
    chunk_kind: str

    def whole(self, index: int, pieces: Sequence[Piece], finished: Finished) -> dict[str, Any]: ...

    def first(self, index: int) -> dict[str, Any] | None:
        """What stands before a choice's first piece, if anything does."""
        ...

    def piece(self, index: int, piece: Piece) -> dict[str, Any]: ...

    def last(self, index: int, finished: Finished) -> dict[str, Any]: ...


async def answer(service: GenerationService, generations: Sequence[GenerationRequest], output: "Output") -> Response:
    """The response to requests that differ in their prompts alone. Raises what the service raises."""
    choices = await service.open(*generations)
    if generations[0].stream:
        response: Response = EventStream(choices, output.frames(choices))
    else:
        async with choices:
            whole = await output.whole(choices)
        response = JSONResponse(whole, headers={"cache-control": "no-store"})
    response.headers.update(_capacity(service))
    return response


def _capacity(service: GenerationService) -> Mapping[str, str]:
    """Hints, by OpenAI's names: what could be admitted at this moment, beside what is inside."""
    remaining = service.remaining()
    return {
        "x-ratelimit-limit-requests": str(remaining.places),
        "x-ratelimit-remaining-requests": str(remaining.free_places),
        "x-ratelimit-limit-tokens": str(remaining.tokens),
        "x-ratelimit-remaining-tokens": str(remaining.free_tokens),
    }


@dataclass(frozen=True, slots=True)
class Output:
    """One answer on its way out; `per_prompt` choices belong to each prompt."""

    head: Head
    writer: Writer
    per_prompt: int
    options: StreamOptions

    async def whole(self, choices: Choices) -> dict[str, Any]:
        """Raises the error that an answer ended with."""
        pieces: dict[int, list[Piece]] = {}
        ends: dict[int, Finished] = {}
        async for index, event in choices:
            if not isinstance(event, Finished):
                pieces.setdefault(index, []).append(event)
            elif event.error is not None:
                raise event.error
            else:
                ends[index] = event
        written = [self.writer.whole(index, pieces.get(index, []), ends[index]) for index in sorted(ends)]
        return self.head.of(self.writer.kind, written) | self._counts(ends)

    async def frames(self, choices: Choices) -> AsyncGenerator[str, None]:
        """Chunks in the order of their coming. [DONE] is the last one also after an error: some clients wait for it,
        and the others have stopped reading."""
        begun: set[int] = set()
        ends: dict[int, Finished] = {}
        async for index, event in choices:
            if isinstance(event, Finished) and event.error is not None:
                yield frame(openai_error(event.error))
                yield DONE
                return
            # Not before there is something to say: clients take the first chunk for the first token's time.
            if index not in begun and (first := self.writer.first(index)):
                yield self._chunk([first], choices)
            begun.add(index)
            if isinstance(event, Finished):
                ends[index] = event
                yield self._chunk([self.writer.last(index, event)], choices)
            else:
                yield self._chunk([self.writer.piece(index, event)], choices)
        if self.options.include_usage:
            yield frame(self.head.of(self.writer.chunk_kind, []) | self._counts(ends))
        yield DONE

    def _chunk(self, written: list[dict[str, Any]], choices: Choices) -> str:
        chunk = self.head.of(self.writer.chunk_kind, written)
        if self.options.continuous_usage_stats:
            chunk["usage"] = usage_object(choices.usage())
        elif self.options.include_usage:
            chunk["usage"] = None
        return frame(chunk)

    def _counts(self, ends: Mapping[int, Finished]) -> dict[str, Any]:
        finished = [ends[index] for index in sorted(ends)]
        usage = summed_usage([end.usage for end in finished], self.per_prompt)
        timings = overall([end.timings for end in finished])
        return {"usage": usage_object(usage), "timings": timings_object(timings, usage, len(finished))}
