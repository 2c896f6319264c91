"""Opens answers that other servers compute. It stands where the service over this process's engine stands."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from app.contract.engine import Capacity, EngineStatus, ModelInfo, Phase
from app.contract.progress import Progress
from app.contract.readiness import refuse_unless_ready, upstream_unavailable
from app.contract.requests import GenerationRequest
from app.contract.telemetry import (
    EngineLoad,
    KvTokens,
    Observer,
    Observers,
    PhaseChanged,
    Preemptions,
)
from app.contract.terms import TermsOf, no_terms
from app.fair_queue import FairPlaces
from app.remote.answer_reader import NewText
from app.remote.asked import Asked
from app.remote.asking import Asking, Question
from app.remote.body import refuse_unsupported, size_of
from app.remote.ending import Ending
from app.remote.fleet import Fleet, affinity_of
from app.remote.output import RemoteOutput
from app.remote.token_numbers import bytes_of
from app.remote.upstream import Upstream
from app.serving.admission import Admission, Limits, Reservation, Size
from app.serving.answer import Answer, Together
from app.serving.choices import Choices, MergedEnd, each_choice
from app.serving.refusals import refusals_told, refuse_too_many
from app.settings import Settings

PATIENCE = 10.0
"""Seconds in which a server may refuse a request with a status. Then the answer begins without it, since a stream
that is silent for longer is cut by proxies; what is refused later ends the answer with an error."""

_PROBES = 4  # connections beside those of requests
_CONTEXT = 32_768  # tokens, where no server tells
_CHARACTERS_PER_TOKEN = 4  # an estimate, for limits: the servers have the tokenizer
_ANY_ID = 10_000_000  # the servers know which ids there are


class RemoteService:
    """It starts and stops with the process, as an engine does, and opens answers, as a service does."""

    def __init__(self, observers: Observers, settings: Settings, terms_of: TermsOf = no_terms) -> None:
        self._sequences = settings.upstream_requests
        self._kv_tokens = settings.kv_tokens
        key = None if settings.engine_api_key is None else settings.engine_api_key.get_secret_value()
        upstreams = [Upstream(one, key, self._sequences + _PROBES, observers.notify) for one in settings.upstreams]
        wanted = None if settings.model == "auto" else settings.model
        self._fleet = Fleet(upstreams, wanted, self._become_ready)
        self._names = settings.served_names or ()
        self._observers = observers
        self._timeout = settings.request_timeout
        self._terms_of = terms_of
        self._admission = Admission(settings.max_waiting, settings.max_wait)
        self._ending = Ending()
        self._idle = asyncio.Event()
        self._idle.set()
        places = FairPlaces(self._sequences, changed=self._load_changed)
        self._asking = Asking(self._fleet, places, self._ending, share_prefixes=settings.share_prefixes)
        self._phase = Phase.STARTING
        self._created_at = time.monotonic()

    def status(self) -> EngineStatus:
        starting = self._phase is Phase.STARTING
        elapsed = time.monotonic() - self._created_at
        return EngineStatus(
            self._phase, 0.0 if starting else 1.0, self._fleet.detail, elapsed, reachable=self._fleet.reachable
        )

    async def start(self) -> None:
        """Begin to ask the servers what they serve, and return."""
        self._fleet.start()

    async def drain(self) -> None:
        """Refuse new requests; return when no request is at a server or waits."""
        self._become(Phase.DRAINING)
        await self._idle.wait()

    async def stop(self) -> None:
        """End running requests with Interrupted, and close all connections."""
        self._become(Phase.STOPPED)
        self._ending.stop()
        await self._idle.wait()
        await self._fleet.stop()

    @property
    def model(self) -> ModelInfo:
        """By the name that the servers have for it. Raises NotReady until one of them has answered."""
        served = self._fleet.served
        if served is None:
            refuse_unless_ready(self.status())
            raise upstream_unavailable()
        return ModelInfo(
            name=served.name,
            context_tokens=self.context,
            stop_tokens=frozenset(),
            vocabulary=_ANY_ID,
            defaults=None,
            other_names=self._names,
        )

    @property
    def context(self) -> int:
        return self._fleet.context_tokens

    def token_bytes(self, token: int) -> bytes:
        return bytes_of(token)

    def limits(self, tenant: str) -> Limits:
        """The tokens of prompts are estimates."""
        return self._admission.limits(self._capacity, tenant, self._terms_of(tenant))

    async def open(self, *requests: GenerationRequest) -> Choices:
        """As the protocol says. A server's refusal is raised if it comes within PATIENCE."""
        arrived_at = time.monotonic()
        terms = self._terms_of(requests[0].tenant)
        requests = tuple(replace(request, terms=terms) for request in requests)
        end = MergedEnd(self._observers, requests[0].n)
        name = None if self._fleet.served is None else self._fleet.served.name
        with refusals_told(self._observers, requests[0], name, arrived_at):
            return Choices(await self._admit(each_choice(requests), end, arrived_at), end, requests[0].n)

    async def _admit(
        self, requests: Sequence[GenerationRequest], observers: Observer, arrived_at: float
    ) -> list[Answer[NewText]]:
        refuse_unless_ready(self.status())
        refuse_unsupported(requests[0])
        capacity, tenant, terms = self._capacity, requests[0].tenant, requests[0].terms
        refuse_too_many(requests, self._admission.most_answers(capacity, terms))
        async with AsyncExitStack() as stack:
            reservations = [stack.enter_context(self._admission.enter(capacity, tenant, terms)) for _ in requests]
            self._admission.take(reservations, [self._size(request) for request in requests], capacity)
            together, answers, firsts = Together(), [], []
            for index, (request, reservation) in enumerate(zip(requests, reservations, strict=True)):
                question = self._question(request, arrived_at)
                asked = Asked(self._asking.ask(question))
                stack.push_async_callback(asked.aclose)
                answers.append(self._answer(question, asked, reservation, observers, together))
                if index % request.n == 0:  # the others of its prompt wait until this one has begun
                    firsts.append(asked)
            for asked in firsts:
                asked.begin()
            give_up_at = time.monotonic() + PATIENCE
            for asked in firsts:
                await asked.accepted(give_up_at)
            stack.pop_all()  # from here on the answers release and close them
        return answers

    def _question(self, request: GenerationRequest, arrived_at: float) -> Question:
        now = time.monotonic()
        return Question(
            request=request,
            affinity=affinity_of(request),
            deadline_at=arrived_at + self._timeout,
            max_tokens=request.max_tokens,
            progress=Progress(arrived_at, prepared_at=now, opened_at=now),
        )

    def _answer(
        self,
        question: Question,
        asked: Asked,
        reservation: Reservation,
        observers: Observer,
        together: Together,
    ) -> Answer[NewText]:
        return Answer(
            request=question.request,
            engine_request=question,
            events=asked,
            model=self.model.name,
            output=RemoteOutput(question.request),
            echo=None,
            reservation=reservation,
            observers=observers,
            together=together,
        )

    @property
    def _capacity(self) -> Capacity:
        return Capacity(self._sequences, self._kv_tokens or self._sequences * (self.context or _CONTEXT))

    def _size(self, request: GenerationRequest) -> Size:
        prompt_tokens = size_of(request) // _CHARACTERS_PER_TOKEN + 1
        most = (self.context or _CONTEXT) if request.max_tokens is None else request.max_tokens
        return Size(prompt_tokens, max(1, most))

    def _become_ready(self) -> None:
        if self._phase is Phase.STARTING:
            self._become(Phase.READY)

    def _become(self, phase: Phase) -> None:
        self._phase = phase
        status = self.status()
        self._observers.notify(PhaseChanged(phase, status.detail, status.elapsed))

    def _load_changed(self, taken: int, waiting: int) -> None:
        (self._idle.clear if taken or waiting else self._idle.set)()
        self._observers.notify(
            EngineLoad(
                running=taken,
                waiting=waiting,
                waits_for="place",
                kv=KvTokens(running=0, shared=0, cached=0, free=0),
                evicted_pages=0,
                preemptions=Preemptions(),
            )
        )
