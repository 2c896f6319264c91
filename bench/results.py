"""The result of a measurement: rows with targets, and a table with everything else."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel

from bench.machine import Machine
from stack.config import ROOT

RESULTS = ROOT / "bench" / "results"
Cell = str | float | int | None


class Spread(BaseModel):
    """The median of several rounds, and their lowest and highest."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(median=statistics.median(values), low=min(values), high=max(values), rounds=len(values))

    @classmethod
    def of_ratios(cls, ours: Sequence[float], theirs: Sequence[float]) -> Self:
        """The ratios of the rounds: the two values of a round were measured right after each other."""
        return cls.of([a / b for a, b in zip(ours, theirs, strict=True)])


class Row(BaseModel):
    """One measure of the table. Without a target it is shown and not judged."""

    measure: str
    value: Spread
    target: float | None = None
    bound: Literal["at least", "at most"] = "at least"
    unit: str = "times"

    @property
    def held(self) -> bool | None:
        if self.target is None:
            return None
        above = self.value.median >= self.target
        return above if self.bound == "at least" else self.value.median <= self.target


class Table(BaseModel):
    columns: list[str]
    rows: list[list[Cell]]


class Finding(BaseModel):
    """What a measurement returns."""

    rows: list[Row]
    table: Table
    notes: list[str] = []


class Result(BaseModel):
    """A finding, the machine, and the time."""

    name: str
    title: str
    finding: Finding
    machine: Machine
    commit: str
    date: str  # UTC, to the minute
    seconds: float  # that the measurement took
    busy_cores: tuple[float, float]  # in use by others right before and after
    load_average: tuple[float, float]  # of a minute, right before and after: after, it is mostly our own


def save(result: Result, folder: Path = RESULTS) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.name}.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")


def load_all(names: Sequence[str], folder: Path = RESULTS) -> list[Result]:
    """Those of the named results that exist, in that order."""
    paths = [folder / f"{name}.json" for name in names]
    return [Result.model_validate_json(path.read_text(encoding="utf-8")) for path in paths if path.exists()]
