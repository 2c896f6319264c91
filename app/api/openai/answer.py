"""An answer in OpenAI's form, whole or as a stream of chunks, for every route."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from starlette.responses import Response

from app.api.http.long_json import long_json
from app.api.http.sse import DONE, HEARTBEAT, EventStream, frame
from app.api.openai.bodies.sampling_fields import StreamOptions
from app.api.openai.errors import openai_error
from app.api.openai.header import counts, usage_counts
from app.api.openai.responses import Counts, Header, StreamChunk
from app.contract.events import Finished, Piece
from app.contract.requests import GenerationRequest
from app.serving.choices import Choices, overall, summed_usage
from app.serving.protocol import Service

Whole = TypeVar("Whole")
Part = TypeVar("Part")


class Writer(Protocol[Whole, Part]):
    """How a route writes its choices: `Whole` is a choice of a whole answer, `Part` one of a chunk.

    Belongs to one answer, and may have state.
    """

    def whole(self, index: int, pieces: Sequence[Piece], finished: Finished) -> Whole: ...

    def first(self, index: int) -> Part | None:
        """A chunk before a choice's first piece, if there is one."""
        ...

    def piece(self, index: int, piece: Piece) -> Part: ...

    def last(self, index: int, finished: Finished) -> Part: ...

    def completion(self, header: Header, choices: list[Whole], end: Counts) -> Mapping[str, object]: ...

    def chunk(self, header: Header, choices: list[Part]) -> StreamChunk: ...


class Form(Protocol):
    """An answer as a client gets it."""

    @property
    def heartbeat(self) -> str:
        """The frame that says that a silent stream is alive."""
        ...

    async def whole(self, choices: Choices) -> Mapping[str, object]:
        """Raises the error that an answer ended with."""
        ...

    def frames(self, choices: Choices) -> AsyncGenerator[str, None]: ...


async def answer(service: Service, generations: Sequence[GenerationRequest], output: Form) -> Response:
    """The response to requests that differ in their prompts alone. Raises what the service raises."""
    choices = await service.open(*generations)
    if generations[0].stream:
        response: Response = EventStream(choices, output.frames(choices), output.heartbeat)
    else:
        async with choices:
            whole = await output.whole(choices)
        headers = {"cache-control": "no-store"}
        response = Response(await long_json(whole), headers=headers, media_type="application/json")
    response.headers.update(_limit_headers(service, generations[0].tenant))
    return response


def _limit_headers(service: Service, tenant: str) -> Mapping[str, str]:
    """The tenant's share of what could be admitted at this moment, with OpenAI's names."""
    limits = service.limits(tenant)
    return {
        "x-ratelimit-limit-requests": str(limits.requests),
        "x-ratelimit-remaining-requests": str(limits.remaining_requests),
        "x-ratelimit-limit-tokens": str(limits.tokens),
        "x-ratelimit-remaining-tokens": str(limits.remaining_tokens),
    }


@dataclass(frozen=True, slots=True)
class Output(Generic[Whole, Part]):
    """How one answer is written; `per_prompt` choices belong to each prompt."""

    header: Header
    writer: Writer[Whole, Part]
    per_prompt: int
    options: StreamOptions
    heartbeat: ClassVar[str] = HEARTBEAT

    async def whole(self, choices: Choices) -> Mapping[str, object]:
        """Raises the error that an answer ended with."""
        pieces: dict[int, list[Piece]] = {}
        ends: dict[int, Finished] = {}
        async for index, event in choices:
            if not isinstance(event, Finished):
                pieces.setdefault(index, []).append(event)
            elif event.failure is not None:
                raise event.failure
            else:
                ends[index] = event
        written = []
        for index in sorted(ends):
            written.append(self.writer.whole(index, pieces.get(index, []), ends[index]))
            await asyncio.sleep(0)  # a choice may list the log-probabilities of a long prompt
        return self.writer.completion(self.header, written, self._counts(ends))

    async def frames(self, choices: Choices) -> AsyncGenerator[str, None]:
        """Chunks as they come. [DONE] is last, also after an error: some clients wait for it, the others have stopped
        reading."""
        begun: set[int] = set()
        ends: dict[int, Finished] = {}
        async for index, event in choices:
            if isinstance(event, Finished) and event.failure is not None:
                yield frame(openai_error(event.failure))
                yield DONE
                return
            if index not in begun:
                # Not earlier: clients take the time of the first chunk for the time of the first token.
                begun.add(index)
                first = self.writer.first(index)
                if first is not None:
                    yield self._frame(first, choices)
            if isinstance(event, Finished):
                ends[index] = event
                yield self._frame(self.writer.last(index, event), choices)
            else:
                yield self._frame(self.writer.piece(index, event), choices)
        if self.options.include_usage:
            end: StreamChunk = {**self.writer.chunk(self.header, []), **self._counts(ends)}
            yield frame(end)
        yield DONE

    def _frame(self, written: Part, choices: Choices) -> str:
        chunk = self.writer.chunk(self.header, [written])
        if self.options.continuous_usage_stats:
            chunk["usage"] = usage_counts(choices.usage())
        elif self.options.include_usage:
            chunk["usage"] = None
        return frame(chunk)

    def _counts(self, ends: Mapping[int, Finished]) -> Counts:
        finished = [ends[index] for index in sorted(ends)]
        usage = summed_usage([end.usage for end in finished], self.per_prompt)
        return counts(usage, overall([end.timings for end in finished]), len(finished))
