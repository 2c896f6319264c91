"""The figures of a committed run of `make gpu-check`, by what was measured. Times are in seconds."""

import re

from bench.gpu_check.report import Check, Row, load_all
from bench.results import RESULTS

SAME_LENGTHS = 2048
"""Tokens of context of the steps that are compared with transformers' `generate`."""


CARDS = {"H100": "NVIDIA H100 80GB HBM3", "H200": "NVIDIA H200"}
"""By the names that the documents use, those that the driver tells."""


NAMED = {(12, 2048): (32, 2048), (45, 512): (64, 512)}
"""(sequences that decoded in the median step, context): what the runs of 2026-11-27 call it. Their requests ended
after 60 tokens, before the last prompts were computed: 32 of 2,048 tokens took 125 steps. The sequences were counted
by playing the scheduler of those commits without a model."""


class Run:
    """One card's run."""

    def __init__(self, check: Check) -> None:
        self._rows = {row.name: row for section in check.sections for row in section.rows}

    @property
    def torch(self) -> str:
        """Its version."""
        return str(self._rows["torch"].value)

    @property
    def gibibytes(self) -> float:
        """Of the card."""
        return float(self._rows["GPU 0"].note.split()[1])

    @property
    def bandwidth(self) -> float:
        """Of a copy, read and written bytes per second."""
        return 1e12 * self._value("copy bandwidth, read and write")

    @property
    def flops(self) -> float:
        """Of a matrix product in bfloat16, per second."""
        return 1e12 * self._value("matrix product, bfloat16")

    @property
    def reserved(self) -> float:
        """The most memory that was reserved, as a part of what the plan had to give out."""
        return self._value("GPU 0, reserved at most / free before")

    def step(self, batch: int, context: int) -> float:
        """A whole decode step, with the host's part. Raises ValueError where the run has no more than its name."""
        if (batch, context) in NAMED.values():
            raise ValueError(f"no step of {batch} sequences behind {context} tokens was measured: {NAMED}")
        batch, context = NAMED.get((batch, context), (batch, context))
        return self._value(f"decode step, batch {batch}, context {context}") / 1e3

    def busy(self, batch: int) -> float:
        """What the device alone worked for a captured decode step behind 512 tokens, by torch's profiler."""
        return float(self._noted(self._profile(batch), r"devices busy ([\d.]+) ms")) / 1e3

    def waits(self, batch: int) -> int:
        """How often the host waited for the device in such a step."""
        return int(self._noted(self._profile(batch), r"(\d+) waits"))

    def launches(self, batch: int) -> int:
        """Of a decode step that is not captured."""
        return int(self._value(f"one decode step, eager, batch {batch}: launches"))

    def chunk(self, tokens: int, before: int) -> float:
        """A prompt chunk behind so many tokens."""
        return tokens / self._value(f"prefill, chunk {tokens} behind {before}")

    def generate(self, batch: int) -> float:
        """A token of each sequence by transformers' `generate` on the same weights."""
        return self._value(f"transformers generate, batch {batch}, context {SAME_LENGTHS}") / 1e3

    def _profile(self, batch: int) -> Row:
        return self._rows[f"one decode step, captured, batch {batch}: launches"]

    def _value(self, name: str) -> float:
        return float(self._rows[name].value)

    @staticmethod
    def _noted(row: Row, pattern: str) -> str:
        found = re.search(pattern, row.note)
        if found is None:
            raise ValueError(f"the note of {row.name!r} has no {pattern}: {row.note}")
        return found[1]


def committed() -> dict[str, Run]:
    """The run of each of CARDS that is in bench/results/gpu."""
    runs = {check.card: Run(check) for check in load_all(RESULTS / "gpu")}
    return {name: runs[card] for name, card in CARDS.items()}
