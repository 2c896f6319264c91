"""What a step takes on a card: measured on the H100 and the H200, and estimated from them for one nobody measured.

A step of decoding sequences reads its weights and latents at the speed of a copy, and takes some time more whatever
it reads. A step with prompt tokens multiplies at a part of the matrix product's speed, or takes as long as the host
needs to launch it. The measured points are met exactly; between two of them the quotient of the measured and the
computed time is interpolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from app.contract.engine import Capacity
from app.engine.attention.step_parts import count_for
from app.engine.execution.parts import best_count
from app.engine.scheduling.decision import Decision
from app.engine.scheduling.scheduler import ALONE
from app.engine.thread import GPU_CHUNK
from app.local_engine import most_sequences
from app.models.catalogue import DEEPSEEK
from app.models.placement import Gpu, plan
from app.models.units import GIB
from app.settings import Settings
from bench.arithmetic.pipeline import cut, makespan
from bench.arithmetic.runs import Run, committed
from bench.arithmetic.sheets import CARDS
from bench.arithmetic.work import Model, Work

_DECODE = ((1, 2048), (8, 2048), (12, 2048), (45, 512))  # (sequences, context) that were measured
_PREFILL = ((2048, 0), (2048, 8192))  # (tokens, before them)
_EVERY_EXPERT = 1000  # rows that hit them all
_TAKEN_GIB = 0.5
"""Of a card before anything runs: 0.4 on the H100."""


@dataclass(frozen=True, slots=True)
class Points:
    """What a measured card took, beside what it takes by its bytes and operations alone."""

    fixed: float  # seconds of a captured step beside its bytes
    host: float  # seconds of the shortest step with prompt tokens
    decode: tuple[tuple[float, float], ...]  # (rows, measured / computed)
    prefill: tuple[tuple[float, float], ...]  # (tokens before the chunk, measured / computed)


@dataclass(frozen=True, slots=True)
class Card:
    """One box: what it computes with. `bandwidth` and `flops` are those that a copy and a matrix product reach."""

    name: str
    gpus: int
    bandwidth: float  # bytes per second
    flops: float  # per second
    capacity: Capacity
    points: Points
    measured: bool

    def seconds(self, decision: Decision) -> float:
        """Of one step.

        A step with both was not measured: the chunks of its prompts take what they take alone, and the latents of
        the sequences that decode are read beside them; their rows share the weights.
        """
        rows = len(decision.decode)
        context = sum(chunk.start for chunk in decision.decode)
        if not decision.prefill:
            return self.decode(rows, context)
        chunks = [(chunk.length, chunk.start) for chunk in decision.prefill]
        count = count_for(rows + sum(tokens for tokens, _ in chunks), _counts(self))
        return self.in_parts(chunks, count, context)

    def in_parts(self, chunks: Sequence[tuple[int, int]], count: int, context: int = 0) -> float:
        """Of prompt chunks in `count` parts over the cards. The first part also reads `context` tokens for sequences
        that decode; the host launches one part after the other."""
        parts = [self.prefill(part) for part in cut(chunks, count)]
        parts[0] += context * _latent_bytes() / self.bandwidth
        return max(self.points.host * len(parts), makespan(parts, self.gpus))

    def decode(self, rows: int, context: int) -> float:
        """Of `rows` sequences with so many tokens of context together."""
        need = Work(_decode(rows).bytes + context * _latent_bytes(), _decode(rows).flops)
        computed = need.floor(self.bandwidth, self.flops) + self.points.fixed
        return computed * _between(self.points.decode, rows)

    def prefill(self, chunks: Sequence[tuple[int, int]]) -> float:
        """Of chunks of (tokens, tokens before it). The weights are read once for all."""
        seconds = sum(
            _model().chunk(length, start).flops / self.flops * _between(self.points.prefill, start)
            for length, start in chunks
        )
        return max(seconds, _decode(_EVERY_EXPERT).bytes / self.bandwidth)


def cards() -> list[Card]:
    """Boxes of this stack: one measured card each, and two cards of 24 GB, which nobody measured: in series for steps
    without prompts, and with prompts in as many parts as are best by what is computed here."""
    runs = committed()
    sheet = CARDS["RTX 3090"]
    measured = _measured("one H100", runs["H100"])
    reached = measured.bandwidth / CARDS["H100 SXM"][0], measured.flops / CARDS["H100 SXM"][1]
    pair = Card(
        name="two RTX 3090",
        gpus=2,
        bandwidth=sheet[0] * reached[0],
        flops=sheet[1] * reached[1],
        capacity=_capacity([24.0, 24.0]),
        points=measured.points,
        measured=False,
    )
    return [pair, measured, _measured("one H200", runs["H200"])]


def _measured(name: str, run: Run) -> Card:
    return Card(
        name=name,
        gpus=1,
        bandwidth=run.bandwidth,
        flops=run.flops,
        capacity=_capacity([run.gibibytes]),
        points=_points(run),
        measured=True,
    )


def _points(run: Run) -> Points:
    steps = {point: run.step(*point) for point in _DECODE}
    chunks = {point: run.chunk(*point) for point in _PREFILL}
    floors = {point: _model().decode(*point).floor(run.bandwidth, run.flops) for point in steps}
    first = _DECODE[0]
    fixed = steps[first] - floors[first]
    return Points(
        fixed=fixed,
        host=min(run.chunk(512, 0), chunks[_PREFILL[0]]),
        decode=tuple((point[0], steps[point] / (floors[point] + fixed)) for point in _DECODE),
        prefill=tuple((point[1], chunks[point] / (_model().prefill(*point).flops / run.flops)) for point in _PREFILL),
    )


def _capacity(sizes: Sequence[float]) -> Capacity:
    """Of a box whose cards have so many GiB, by the plan of this stack with its default settings."""
    gpus = [Gpu(index, "", round(size * GIB), round((size - _TAKEN_GIB) * GIB)) for index, size in enumerate(sizes)]
    planned = plan(DEEPSEEK.config(), gpus, reserve_gib=Settings.model_fields["gpu_reserve"].default)
    return Capacity(most_sequences(planned, planned.kv_tokens), planned.kv_tokens)


def _between(points: Sequence[tuple[float, float]], at: float) -> float:
    """On the line through the two points beside it; beyond the first and the last one, theirs."""
    if at <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if at <= x1:
            return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    return points[-1][1]


@cache
def _counts(card: Card) -> dict[int, int]:
    """What the product would choose at its start."""
    if card.gpus == 1:
        return {}
    return {
        size: best_count(size, lambda rows, count: card.in_parts([(rows, 0)], count))
        for size in (GPU_CHUNK, ALONE * GPU_CHUNK)
    }


@cache
def _model() -> Model:
    return Model(DEEPSEEK.config())


@cache
def _decode(rows: int) -> Work:
    """Without a context."""
    return _model().decode(rows, 0)


@cache
def _latent_bytes() -> float:
    """Of one token's context in a decode step."""
    return _model().decode(1, 1).bytes - _model().decode(1, 0).bytes
