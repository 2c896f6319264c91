"""A runner that the check drives step by step, with requests of given lengths."""

import random
from collections.abc import Iterable

from app.contract.events import Finished, TokenEvent
from app.contract.requests import EngineRequest, SamplingParams
from app.engine.commands import Submit
from app.engine.execution.executor import Executor
from app.engine.execution.runner import Emission, Runner
from app.engine.thread import build_runner
from bench.gpu_check.bench import Bench


class Driven:
    """Requests with random prompts on the check's engine."""

    def __init__(self, bench: Bench, *, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._vocabulary = bench.config.vocab_size
        self._left: set[str] = set()
        self.tokens: dict[str, list[int]] = {}
        self.errors: dict[str, str] = {}
        self.runner: Runner = build_runner(bench.configured, bench.loaded, bench.observers, self._take)

    @property
    def executor(self) -> Executor:
        return self.runner._executor  # noqa: SLF001  # the check takes captured steps away from it, to compare

    def prompt(self, length: int) -> list[int]:
        return [self._random.randrange(3, self._vocabulary) for _ in range(length)]

    def submit(self, name: str, prompt: Iterable[int], max_tokens: int) -> None:
        params = SamplingParams(seed=0, temperature=0.0)
        request = EngineRequest(id=name, tokens=tuple(prompt), max_tokens=max_tokens, sampling=params)
        self.tokens[name] = []
        self._left.add(name)
        self.runner.submit(Submit(request))

    def decode_together(self, batch: int, context: int, steps: int) -> None:
        """Compute the prompts of `batch` requests until every one decodes. None of them ends in the next `steps`
        steps. Raises RuntimeError as `step` does."""
        for number in range(batch):
            self.submit(str(number), self.prompt(context), tokens_for(batch, context, steps))
        self.until_all_decode()

    def until_all_decode(self) -> None:
        """Steps until every request has its first token. Raises RuntimeError as `step` does."""
        while any(not self.tokens[name] for name in self._left):
            self.step()

    def step(self) -> None:
        """One step that is measured. Raises RuntimeError when a request has ended, with an error or without: the
        engine survives failed steps, and the time of a step with fewer requests would be a wrong figure."""
        before = len(self._left)
        self.runner.step()
        self._refuse_errors()
        if not self._left or len(self._left) < before:
            raise RuntimeError("a request ended while its steps were measured")

    def _refuse_errors(self) -> None:
        if self.errors:
            ended = ", ".join(f"{name}: {code}" for name, code in self.errors.items())
            raise RuntimeError(f"requests ended with errors: {ended}")

    def run(self) -> None:
        while self.runner.step():
            pass

    def cancel_all(self) -> None:
        """Raises RuntimeError when a request had ended with an error instead."""
        for name in list(self._left):
            self.runner.cancel(name)
        self._left.clear()
        self.runner.step()
        self._refuse_errors()

    def _take(self, emission: Emission) -> None:
        for name, event in emission:
            if isinstance(event, TokenEvent):
                self.tokens[name].append(event.token)
            elif isinstance(event, Finished):
                self._left.discard(name)
                if event.error is not None:
                    self.errors[name] = event.error.code


def tokens_for(batch: int, context: int, steps: int) -> int:
    """How many tokens each of `batch` requests may have, so that all decode together for `steps` steps: the first one
    gets tokens while the prompts of the others are computed, in chunks of 128 tokens or more."""
    return steps + batch * (context // 128 + 1) + 10
