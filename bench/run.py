"""Runs a measurement on a quiet machine."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.errors import Busy
from bench.machine import QUIET, busy_cores, commit, describe
from bench.results import Finding, Result

_QUIET_PATIENCE = 60.0  # seconds that earlier work has to end


@dataclass(frozen=True, slots=True)
class Bar:
    """The progress of one measurement."""

    progress: Progress
    task: TaskID

    def total(self, steps: int) -> None:
        self.progress.update(self.task, total=steps)

    def say(self, text: str) -> None:
        self.progress.update(self.task, status=text)

    def step(self) -> None:
        self.progress.advance(self.task)


@dataclass(frozen=True, slots=True)
class Run:
    """`quick` makes everything small, to test the measurement; its figures mean nothing."""

    bar: Bar
    rounds: int
    quick: bool = False

    def sizes(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Measurement:
    """`rounds` is the number of turns of each contestant."""

    name: str
    title: str
    measure: Callable[[Run], Finding]
    rounds: int = 5


def perform(measurement: Measurement, console: Console, *, rounds: int | None, quick: bool, busy_ok: bool) -> Result:
    """Raises Busy when other processes use the machine, unless `busy_ok`."""
    before = _wait_until_quiet(console, patience=0.0 if busy_ok else _QUIET_PATIENCE)
    if before > QUIET and not busy_ok:
        raise Busy(
            f"Other processes use {before:.2f} cores: the figures would mean nothing. --busy-ok measures anyway."
        )
    if before > QUIET:
        console.print(
            f"[bold red]The machine is busy ({before:.2f} cores in use by others): the figures are not reliable."
        )
    load, begun = os.getloadavg()[0], time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Drawn seldom: the bar shares the cores with what is measured.
    with Progress(*columns, TextColumn("{task.fields[status]}"), console=console, refresh_per_second=1) as progress:
        bar = Bar(progress, progress.add_task(measurement.name, total=None, status=""))
        finding = measurement.measure(Run(bar, 1 if quick else rounds or measurement.rounds, quick))
    return Result(
        name=measurement.name,
        title=measurement.title,
        finding=finding,
        machine=describe(),
        commit=commit(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        seconds=round(time.monotonic() - begun, 1),
        busy_cores=(round(before, 2), round(busy_cores(), 2)),
        load_average=(round(load, 2), round(os.getloadavg()[0], 2)),
    )


def _wait_until_quiet(console: Console, patience: float) -> float:
    """The number of cores in use, once it is small, or after `patience` seconds."""
    deadline = time.monotonic() + patience
    used = busy_cores()
    while used > QUIET and time.monotonic() < deadline:
        console.print(f"Waiting for a quiet machine: {used:.2f} cores in use")
        used = busy_cores()
    return used
