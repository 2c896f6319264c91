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
        if bench.engine_config is None:
            raise RuntimeError("the model was not loaded: see the section on loading")
        self._random = random.Random(seed)
        self._vocabulary = bench.config.vocab_size
        self._left: set[str] = set()
        self.tokens: dict[str, list[int]] = {}
        self.errors: dict[str, str] = {}
        self.runner: Runner = build_runner(bench.engine_config, bench.loaded, bench.observers, self._take)

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

    def until_all_decode(self) -> None:
        """Steps until every request has its first token or its end."""
        while any(not self.tokens[name] for name in self._left):
            self.runner.step()

    def run(self) -> None:
        while self.runner.step():
            pass

    def cancel_all(self) -> None:
        for name in list(self._left):
            self.runner.cancel(name)
        self._left.clear()
        self.runner.step()

    def _take(self, emission: Emission) -> None:
        for name, event in emission:
            if isinstance(event, TokenEvent):
                self.tokens[name].append(event.token)
            elif isinstance(event, Finished):
                self._left.discard(name)
                if event.error is not None:
                    self.errors[name] = event.error.code
