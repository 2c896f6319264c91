"""Opens answers. A request that cannot be served is refused here, before a route sends a 200."""

import itertools
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from app.contract.engine import Engine, EngineStatus, ModelInfo
from app.contract.events import TokenEvent
from app.contract.progress import Progress
from app.contract.readiness import refuse_unless_ready
from app.contract.requests import EngineRequest, GenerationRequest, Grammar
from app.contract.telemetry import Observer, Observers
from app.contract.terms import TermsOf, no_terms
from app.serving.admission import Admission, Limits, Reservation, Size
from app.serving.answer import Answer, Together
from app.serving.choices import Choices, MergedEnd, each_choice
from app.serving.constrained.dropped_keywords import DroppedKeywords
from app.serving.constrained.grammar import grammar_of
from app.serving.detokenizer import Detokenizer
from app.serving.echo import Echo
from app.serving.output import OutputStream
from app.serving.parser import Parser, PlainParser
from app.serving.prompt.prompts import PreparedPrompt, Prompts
from app.serving.prompt.token_bytes import TokenBytes
from app.serving.refusals import refusals_told, refuse_too_many
from app.serving.tools.stream import ToolParser
from app.settings import Settings
from app.work_pool import WorkPool

_THREADS = 4  # that read prompts at once: a short one takes a millisecond, one of 2 MB a second or two


class GenerationService:
    """The interface of this package to the routes: it opens answers and gives information about the model."""

    def __init__(
        self,
        engine: Engine,
        prompts: Prompts,
        observers: Observers,
        settings: Settings,
        terms_of: TermsOf = no_terms,
    ) -> None:
        self._engine = engine
        self._model = replace(engine.model, other_names=settings.served_names or ())
        self._prompts = prompts
        self._work = WorkPool("prompts", threads=_THREADS)
        self._observers = observers
        self._timeout = settings.request_timeout
        self._terms_of = terms_of
        self._admission = Admission(settings.max_waiting, settings.max_wait)
        self._dropped = DroppedKeywords()
        self._token_bytes = TokenBytes(prompts.tokenizer)
        self._numbers = itertools.count(1)

    @property
    def model(self) -> ModelInfo:
        """The engine's, with all its names."""
        return self._model

    @property
    def context(self) -> int:
        """The most tokens of a prompt and its answer together."""
        return min(self.model.context_tokens, self._engine.capacity.kv_tokens)

    def status(self) -> EngineStatus:
        return self._engine.status()

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token, which may be half a character."""
        return self._token_bytes.of(token)

    def limits(self, tenant: str) -> Limits:
        """What may be admitted of the tenant: its share, or what its terms allow of it."""
        return self._admission.limits(self._engine.capacity, tenant, self._terms_of(tenant))

    async def open(self, *requests: GenerationRequest) -> Choices:
        """All answers to one client's request, `n` to each prompt. They are admitted together or not at all.

        To be used as `async with await service.open(request) as choices`. Several requests differ in their prompts
        alone. Raises NotReady and its kinds, Overloaded, PromptTooLong, InvalidRequest. The
        service reports the end of the request to the observers, however it ends; nobody else does.
        """
        arrived_at = time.monotonic()
        terms = self._terms_of(requests[0].tenant)
        requests = tuple(replace(request, terms=terms) for request in requests)
        per_prompt = requests[0].n
        end = MergedEnd(self._observers, per_prompt)
        with refusals_told(self._observers, requests[0], self.model.name, arrived_at):
            return Choices(await self._admit(each_choice(requests), end, arrived_at), end, per_prompt)

    async def _admit(
        self, requests: Sequence[GenerationRequest], observers: Observer, arrived_at: float
    ) -> list[Answer[TokenEvent]]:
        refuse_unless_ready(self._engine.status())
        capacity, tenant = self._engine.capacity, requests[0].tenant
        terms = requests[0].terms
        refuse_too_many(requests, self._admission.most_answers(capacity, terms))
        with ExitStack() as stack:
            reservations = [stack.enter_context(self._admission.enter(capacity, tenant, terms)) for _ in requests]
            # Each may use an equal share, so that an idle server can always admit all of them.
            share = self._admission.max_prompt_tokens(capacity) // len(requests)
            limit = min(self.context, share)
            prompts, echoes, grammar = await self._work.run(tenant, self._prepare, requests, limit)
            refuse_unless_ready(self._engine.status())  # the status may have changed meanwhile
            sizes = [Size(len(prompt.tokens), prompt.max_tokens) for prompt in prompts]
            self._admission.take(reservations, sizes, capacity)
            prepared_at = time.monotonic()
            together = Together()
            answers = [
                await self._answer(
                    request,
                    self._engine_request(request, prompt, grammar, Progress(arrived_at, prepared_at)),
                    echo,
                    place,
                    observers,
                    together=together,
                )
                for request, prompt, echo, place in zip(requests, prompts, echoes, reservations, strict=True)
            ]
            stack.pop_all()  # from here on the answers release them
        return answers

    def _prepare(
        self, requests: Sequence[GenerationRequest], limit: int
    ) -> tuple[list[PreparedPrompt], list[Echo | None], Grammar | None]:
        """On a thread: one prompt for each request, perhaps its echo, and the grammar of them all. The `n` requests
        with the same prompt share it."""
        grammar = grammar_of(requests[0], self._dropped)
        prompts: list[PreparedPrompt] = []
        for index, request in enumerate(requests):
            again = index % request.n > 0
            prompts.append(prompts[-1] if again else self._prompts.prepare(request, limit))
        echoes = [self._echo(request, prompt) for request, prompt in zip(requests, prompts, strict=True)]
        return prompts, echoes, grammar

    def _echo(self, request: GenerationRequest, prompt: PreparedPrompt) -> Echo | None:
        if request.prompt_logprobs is None:
            return None
        text = request.prompt
        if not isinstance(text, str):
            text = b"".join(map(self.token_bytes, prompt.tokens)).decode(errors="replace")
        return Echo(text, len(prompt.tokens), prompt.leading)

    async def _answer(
        self,
        request: GenerationRequest,
        engine_request: EngineRequest,
        echo: Echo | None,
        reservation: Reservation,
        observers: Observer,
        *,
        together: Together,
    ) -> Answer[TokenEvent]:
        """Raises what the engine refuses."""
        events = await self._engine.open(engine_request)
        engine_request.progress.opened_at = time.monotonic()
        return Answer(
            request=request,
            engine_request=engine_request,
            events=events,
            model=self.model.name,
            output=OutputStream(Detokenizer(self._prompts.tokenizer), _parser(request)),
            echo=echo,
            reservation=reservation,
            observers=observers,
            together=together,
        )

    def _engine_request(
        self, request: GenerationRequest, prompt: PreparedPrompt, grammar: Grammar | None, progress: Progress
    ) -> EngineRequest:
        return EngineRequest(
            id=f"{request.id}-{next(self._numbers)}",  # a client may use an id twice, but the engine needs unique ids
            tokens=prompt.tokens,
            max_tokens=prompt.max_tokens,
            sampling=request.sampling,
            stop_tokens=frozenset() if request.ignore_eos else self.model.stop_tokens,
            grammar=grammar,
            tenant=request.tenant,
            deadline_at=progress.arrived_at + self._timeout,
            prompt_logprobs=request.prompt_logprobs,
            request_id=request.id,
            progress=progress,
        )


def _parser(request: GenerationRequest) -> Parser:
    if not request.callable_tools:
        return PlainParser(request.stop, request.lines, every_token=request.prompt_logprobs is not None)
    return ToolParser(request.stop, words=request.tool_choice.mode != "required")
