"""Computes one step after the other for all requests. Everything here runs on the inference thread.

step:  expire                end the requests whose deadline has passed
       scheduler.decide      which sequences decode, which prompt chunks prefill, and their pages
       executor.execute      one forward pass over all of them
       sampler.sample        one token for each sequence whose pending tokens are all computed
       emit                  send every new event to the event loop, in one call

On GPUs the events of a step are sent when the next one has been launched: the event loop and this thread share the
interpreter's lock, and so the loop writes to clients while the devices compute instead of before they can begin.
docs/decisions/0009-the-hosts-share-of-a-step.md has figures.
"""

import logging
import time
from collections.abc import Callable, Sequence

import torch

from app.contract.errors import (
    DeadlineExceeded,
    GenerationFailed,
    GrammarExhausted,
    InvalidRequest,
    NoTokenLeft,
    OutOfMemory,
    ServingError,
)
from app.contract.events import EngineEvent, FinishReason, PromptEvent, TokenEvent
from app.contract.readiness import interrupted
from app.contract.telemetry import EngineLoad, Observers, StepDone
from app.engine.commands import Submit
from app.engine.errors import DevicePoisonedError
from app.engine.execution.device_faults import lost_device, ran_out_of_memory
from app.engine.execution.executor import Computed, Executor
from app.engine.execution.load import load_of
from app.engine.execution.memory.cleanup import Cleaner
from app.engine.execution.prompt_scores import PromptScores
from app.engine.execution.running_request import RunningRequest
from app.engine.sampling.sampler import Sampled, Sampler
from app.engine.scheduling.decision import Decision, SequenceChunk
from app.engine.scheduling.scheduler import Scheduler

_log = logging.getLogger(__name__)

Emission = list[tuple[str, EngineEvent]]
"""(request id, event), in order."""


class Runner:
    """The waiting and running requests, and what computes them."""

    def __init__(
        self,
        *,
        executor: Executor,
        scheduler: Scheduler,
        cleaner: Cleaner,
        observers: Observers,
        emit: Callable[[Emission], None],
    ) -> None:
        self._executor = executor
        self._scheduler = scheduler
        self._cleaner = cleaner
        self._observers = observers
        self._emit = emit
        self._sampler = Sampler()
        self._requests: dict[str, RunningRequest] = {}
        self._outbox: Emission = []
        self._load: EngineLoad | None = None
        self._cleaned_for_memory = False
        self._steps = 0

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return self._scheduler.kv.tokens

    def submit(self, command: Submit) -> None:
        running = RunningRequest(command.request, command.constraint)
        try:
            self._scheduler.add(running.sequence)
        except ValueError as error:  # admission refuses such requests earlier
            finished = running.finished(FinishReason.ERROR, InvalidRequest(f"The request cannot run: {error}."))
            self._outbox.append((command.request.id, finished))
            return
        self._requests[command.request.id] = running
        if command.request.prompt_logprobs is not None:
            self._outbox.append((command.request.id, PromptEvent((TokenEvent(command.request.tokens[0]),))))

    def cancel(self, request_id: str) -> None:
        """Frees its pages at once. Emits nothing: the reader of the request has left."""
        running = self._requests.pop(request_id, None)
        if running is not None:
            self._scheduler.remove(running.sequence, keep=True)
            self._cleaner.request_ended()

    def step(self) -> bool:
        """Compute one step. False when there was nothing to compute."""
        self._expire()
        decision = self._scheduler.decide()
        if decision is None:
            self._flush()
            self._cleaner.no_request_runs()
            return False
        if decision.prefill:  # to launch such a step may take long
            self._flush()
        self._run(decision)
        self._cleaner.step_done()
        if not self._executor.asynchronous:
            self._flush()
        return True

    def end_all(self) -> None:
        """End every request with Interrupted."""
        for running in list(self._requests.values()):
            self._finish(running, FinishReason.ERROR, interrupted(), keep=False)
        self._flush()

    def _run(self, decision: Decision) -> None:
        begun = time.monotonic()
        for chunk in (*decision.decode, *decision.prefill):
            self._requests[chunk.sequence.id].started(begun)
        failure: ServingError | None = None
        try:
            computed, sampled = self._compute(decision)
        except Exception as error:  # noqa: BLE001  # one step's failure is its requests' failure, not the server's
            failure = self._failure(error, decision)
        # Outside the handler: a traceback pins the tensors of every frame that it passed through.
        if isinstance(failure, OutOfMemory):
            self._relieve(decision, failure)
        elif failure is not None:
            self._fail(decision, failure)
        else:
            self._cleaned_for_memory = False
            self._scheduler.advance(decision)
            self._number(decision)
            self._accept_scores(computed.scores)
            self._accept(computed.chunks, sampled, len(decision.decode) + len(decision.prefill))
            self._report(decision, time.monotonic() - begun)

    def _number(self, decision: Decision) -> None:
        self._steps += 1
        for chunk in (*decision.decode, *decision.prefill):
            self._requests[chunk.sequence.id].request.progress.computed_in(self._steps)

    def _failure(self, error: Exception, decision: Decision) -> ServingError:
        """The error of the failed step's requests. Raises DevicePoisonedError when no later step could succeed."""
        self._flush()  # the events of the step before are right, and what follows may wait for a device
        if isinstance(error, RuntimeError):
            lost = lost_device(self._executor.devices)
            if lost is not None:
                raise DevicePoisonedError(lost) from error
        if ran_out_of_memory(error):
            return OutOfMemory("There was not enough memory for this request.", retry_after=5)
        chunks = (*decision.decode, *decision.prefill)
        ids = sorted({self._requests[chunk.sequence.id].request.request_id for chunk in chunks})
        _log.error("a step failed", exc_info=error, extra={"request_ids": ids})
        return GenerationFailed()

    @torch.inference_mode()
    def _compute(self, decision: Decision) -> tuple[Computed, list[Sampled]]:
        computed = self._executor.execute(decision)
        if self._executor.asynchronous:
            self._flush()
        states = [self._requests[chunk.sequence.id].sampling for chunk in computed.chunks]
        return computed, self._sampler.sample(computed.logits, states)

    def _accept_scores(self, scores: PromptScores) -> None:
        """A prompt that is computed again, after a preemption, goes on where it was."""
        for sequence, event in scores:
            sequence.scored += len(event.tokens)
            self._outbox.append((sequence.id, event))

    def _accept(self, chunks: Sequence[SequenceChunk], sampled: Sequence[Sampled], sequences: int) -> None:
        for chunk, event in zip(chunks, sampled, strict=True):
            running = self._requests[chunk.sequence.id]
            if isinstance(event, GrammarExhausted):
                self._finish(running, FinishReason.LENGTH, event)
                continue
            if not isinstance(event, TokenEvent):
                self._finish_without_token(running, event)
                continue
            if running.request.max_tokens == 0:
                self._finish(running, FinishReason.LENGTH)
                continue
            reason = running.accept(event, sequences)
            self._outbox.append((running.request.id, event))
            if reason is not None:
                self._finish(running, reason)

    def _finish_without_token(self, running: RunningRequest, error: GenerationFailed) -> None:
        """Its pages are sound where its own rules left no token. Else no other request may compute with them."""
        sound = isinstance(error, NoTokenLeft)
        if not sound:
            _log.error("the model's scores are no numbers", extra={"request_id": running.request.request_id})
            self._scheduler.kv.distrust(running.sequence)
        self._finish(running, FinishReason.ERROR, error, keep=sound)

    def _finish(
        self, running: RunningRequest, reason: FinishReason, error: ServingError | None = None, *, keep: bool = True
    ) -> None:
        del self._requests[running.request.id]
        self._scheduler.remove(running.sequence, keep=keep)
        self._outbox.append((running.request.id, running.finished(reason, error)))
        self._cleaner.request_ended()

    def _expire(self) -> None:
        now = time.monotonic()
        for running in [each for each in self._requests.values() if each.overdue(now)]:
            error = DeadlineExceeded()
            self._finish(running, FinishReason.ERROR, error)

    def _relieve(self, decision: Decision, failure: OutOfMemory) -> None:
        """Out of memory: first empty the allocator's cache, then make steps smaller, and only then end a request.

        The failed step is computed again. The request that ends has the largest demand in the step.
        """
        if not self._cleaned_for_memory:
            self._cleaned_for_memory = True
            self._cleaner.run()
            return
        if self._scheduler.make_steps_smaller():
            _log.warning("out of memory: steps are smaller for some time", extra=self._scheduler.limits())
            return
        chunks = (*decision.decode, *decision.prefill)
        victim = max(chunks, key=lambda chunk: (chunk.length, chunk.start + chunk.length)).sequence
        asked = self._requests[victim.id].request
        _log.error("out of memory: the request with the largest demand ends", extra={"request_id": asked.request_id})
        self._finish(self._requests[victim.id], FinishReason.ERROR, failure, keep=False)
        self._scheduler.kv.pool.forget_cached()
        self._cleaner.run()

    def _fail(self, decision: Decision, failure: ServingError) -> None:
        """End the step's requests and forget their pages: the step may have written wrong keys and values."""
        for chunk in (*decision.decode, *decision.prefill):
            self._finish(self._requests[chunk.sequence.id], FinishReason.ERROR, failure, keep=False)

    def _report(self, decision: Decision, duration: float) -> None:
        sequences = len(decision.decode) + len(decision.prefill)
        prompt_tokens = sum(chunk.length for chunk in decision.prefill)
        self._observers.notify(StepDone(sequences, prompt_tokens, len(decision.decode), duration))

    def _flush(self) -> None:
        """Send the new events to the event loop, and the load to the observers when it changed."""
        if self._outbox:
            self._emit(self._outbox)
            self._outbox = []
        load = load_of(self._scheduler)
        if load != self._load:
            self._load = load
            self._observers.notify(load)
