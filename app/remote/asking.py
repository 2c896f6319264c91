"""Asks the servers for one answer: one of them, and another one where that fails before anything came out."""

import logging
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

import httpx2

from app.contract.errors import DeadlineExceeded, UpstreamFailed, UpstreamUnavailable
from app.contract.events import Finished
from app.contract.progress import Progress
from app.contract.requests import GenerationRequest
from app.fair_queue import FairPlaces
from app.remote.answer_reader import DONE, AnswerReader, NewText
from app.remote.body import body_of, path_of, reads_schemas, size_of
from app.remote.ending import Ending
from app.remote.event_reader import EventReader, EventTooLong
from app.remote.faults import Fault, broken_off, empty, refusal, unreachable
from app.remote.fleet import Fleet
from app.remote.served import Served
from app.remote.upstream import Upstream
from app.work_pool import WorkPool

MOST_TRIES = 3
_log = logging.getLogger(__name__)
_UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
"""The server never had the request."""

_SHORT = 65_536  # characters of a request that are written at once; others on a thread
_THREADS = 2
_MOST_REFUSAL = 65_536  # bytes of a refusal that are read


@dataclass(slots=True)
class Question:
    """One answer that is wanted. `prompt_tokens` is 0 until a server has told."""

    request: GenerationRequest
    affinity: bytes
    deadline_at: float
    max_tokens: int | None
    progress: Progress
    prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Accepted:
    """A server takes the request: from here on its refusals are failures."""


@dataclass(slots=True)
class Asking:
    """Asks for answers. `share_prefixes`: servers may share cached prompts between tenants."""

    fleet: Fleet
    places: FairPlaces
    ending: Ending
    share_prefixes: bool
    bodies: WorkPool = field(default_factory=lambda: WorkPool("requests", threads=_THREADS))

    async def ask(self, question: Question) -> AsyncGenerator[Accepted | NewText | Finished, None]:
        """Waits for a place first. Raises the error that the client gets."""
        async with AsyncExitStack() as stack:
            place = self.places.place(question.request.tenant)
            await self.ending.within(question.deadline_at, stack.enter_async_context(place))
            tried: list[Upstream] = []
            last = unreachable()
            while len(tried) < MOST_TRIES:
                upstream = self._next(question, tried, last)
                if upstream is None:
                    break
                tried.append(upstream)
                begun = False
                try:
                    async with aclosing(self._attempt(upstream, question)) as events:
                        async for event in events:
                            begun = begun or isinstance(event, NewText)
                            yield event
                except Fault as fault:
                    _log_failure(upstream, question, fault)
                    if begun or not fault.elsewhere:
                        raise fault.error from fault.__cause__
                    last = fault
                else:
                    return
            raise last.error from last.__cause__

    def _next(self, question: Question, tried: list[Upstream], last: Fault) -> Upstream | None:
        """Another server; or, where there is no other, the same once more if its connection broke: it may have closed
        one that was idle just when it was used again."""
        other = self.fleet.choose(question.affinity, tried)
        if other is not None or len(tried) != 1:
            return other
        return tried[0] if isinstance(last.__cause__, httpx2.NetworkError | httpx2.RemoteProtocolError) else None

    async def _attempt(
        self, upstream: Upstream, question: Question
    ) -> AsyncGenerator[Accepted | NewText | Finished, None]:
        """Raises Fault, and what is not the server's: DeadlineExceeded, Interrupted, InvalidRequest."""
        last: Accepted | NewText | Finished | None = None
        try:
            with upstream.lent():
                async with aclosing(self._answer(upstream, question)) as events:
                    async for event in events:
                        last = event
                        if isinstance(event, Finished):  # whose reader asks for nothing behind it
                            upstream.circuit.answered()
                        yield event
        except httpx2.HTTPError as error:
            if isinstance(last, Accepted):
                raise empty() from error
            upstream.failed(surely=isinstance(error, httpx2.ConnectError))
            # Once it was sent, it may have been computed, which a 503 denies.
            raise (unreachable() if isinstance(error, _UNSENT) else broken_off()) from error
        except DeadlineExceeded:
            if question.progress.first_token_at is None:
                upstream.failed(surely=False)
            raise
        except Fault as fault:
            if fault.broken:
                upstream.failed(surely=False)
            raise

    async def _answer(
        self, upstream: Upstream, question: Question
    ) -> AsyncGenerator[Accepted | NewText | Finished, None]:
        request, progress, deadline_at = question.request, question.progress, question.deadline_at
        if upstream.served is None:
            raise unreachable()
        body = await self._body(request, upstream.served)
        progress.upstream = upstream.name
        progress.sent_at = progress.sent_at or monotonic()
        response = await self.ending.within(deadline_at, upstream.send(path_of(request), body, request.id))
        try:
            if response.status_code != 200:
                told = await self.ending.within(deadline_at, _beginning(response))
                raise refusal(response.status_code, response.headers, told, request)
            upstream.began()
            yield Accepted()
            reader = AnswerReader(request)
            async with aclosing(self._events(response, deadline_at)) as events:
                async for data in events:
                    new = reader.push(data)
                    usage = reader.usage
                    question.prompt_tokens, progress.cached_tokens = usage.prompt_tokens, usage.cached_tokens
                    if new is not None:
                        yield new
            if reader.reason is None:
                raise broken_off() if reader.begun else empty()
            yield Finished(reader.reason, reader.usage, error=reader.cut_by, stop=reader.stop)
        finally:
            await response.aclose()

    async def _body(self, request: GenerationRequest, served: Served) -> bytes:
        if size_of(request) <= _SHORT and not reads_schemas(request, served):
            return body_of(request, served, share_prefixes=self.share_prefixes)
        write = partial(body_of, share_prefixes=self.share_prefixes)
        return await self.bodies.run(request.tenant, write, request, served)

    async def _events(self, response: httpx2.Response, deadline_at: float) -> AsyncGenerator[bytes, None]:
        """The data of each event, up to the last one. Raises Fault when it is too long."""
        reader = EventReader()
        async with aclosing(response.aiter_bytes()) as pieces:
            while True:
                try:
                    events = reader.push(await self.ending.within(deadline_at, anext(pieces)))
                except StopAsyncIteration:
                    break
                except EventTooLong:
                    raise broken_off() from None
                for data in events:
                    if data == DONE:
                        return
                    yield data
        for data in reader.flush():
            if data != DONE:
                yield data


def _log_failure(upstream: Upstream, question: Question, fault: Fault) -> None:
    """Of what its client is told to look up here, or what another server answered then."""
    if not isinstance(fault.error, UpstreamFailed | UpstreamUnavailable):
        return
    cause = fault.__cause__
    reason = fault.seen if cause is None else type(cause).__name__
    extra = {"request_id": question.request.id, "upstream": upstream.name, "reason": reason}
    _log.warning("a server failed a request", extra=extra)


async def _beginning(response: httpx2.Response) -> bytes:
    body = b""
    async with aclosing(response.aiter_bytes()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > _MOST_REFUSAL:
                break
    return body[:_MOST_REFUSAL]
