"""Takes steps apart: what decide, prepare, launch, device, sample and emit take of each."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Self

from app.engine.execution import executor
from bench.gpu_check.bench import Bench
from bench.gpu_check.driven import Driven

PARTS = ("decide", "prepare", "launch", "device", "sample", "emit")


class Clock:
    """While it is entered, the engine's own calls are timed, in milliseconds on the host.

    decide: the scheduler. prepare: the step's rows, and their integers on the way to the devices. launch: the rest
    of what the host does for the layers; on a CPU this is the computation. device: what the host then waits for; the
    wait is put before the sampler, which would wait itself, so such a step takes a little longer. sample: the sampler
    after that. emit: the events to the reader.
    """

    def __init__(self, bench: Bench, driven: Driven) -> None:
        self._bench = bench
        self._driven = driven
        self._step: defaultdict[str, float] = defaultdict(float)
        self._steps: list[defaultdict[str, float]] = []
        self._restore: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        runner, graphs = self._driven.runner, self._driven.executor.graphs
        self._wrap(runner._scheduler, "decide", "decide")  # noqa: SLF001  # the step is taken apart on purpose
        self._wrap(executor, "step_of", "prepare")
        self._wrap(runner._executor._cache, "begin", "prepare")  # noqa: SLF001  # likewise
        if graphs is not None:
            self._wrap(graphs._inputs, "fill", "prepare")  # noqa: SLF001  # likewise
        self._wrap(runner._executor, "execute", "execute")  # noqa: SLF001  # likewise
        self._wrap(runner._sampler, "sample", "sample", first=self._wait)  # noqa: SLF001  # likewise
        self._wrap(runner, "_flush", "emit")
        return self

    def __exit__(self, *_: object) -> None:
        while self._restore:
            self._restore.pop()()

    def step(self) -> None:
        """Compute one step."""
        self._step = defaultdict(float)
        self._driven.step()
        self._step["launch"] = self._step.pop("execute", 0.0) - self._step["prepare"]
        self._steps.append(self._step)

    def medians(self) -> dict[str, float]:
        """Of the steps, by part."""
        return {part: sorted(step[part] for step in self._steps)[len(self._steps) // 2] for part in PARTS}

    def _wait(self) -> None:
        begun = time.perf_counter()
        self._bench.synchronize()
        self._took("device", begun)

    def _took(self, part: str, begun: float) -> None:
        self._step[part] += (time.perf_counter() - begun) * 1000

    def _wrap(self, owner: Any, name: str, part: str, *, first: Callable[[], None] | None = None) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if first is not None:
                first()
            begun = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self._took(part, begun)

        own = vars(owner).get(name)
        restore = (lambda: setattr(owner, name, own)) if own is not None else (lambda: delattr(owner, name))
        self._restore.append(restore)
        setattr(owner, name, timed)
