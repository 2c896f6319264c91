"""What a measurement is given, and what surrounds each of them."""

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

_QUIET_PATIENCE = 60.0  # seconds until what ran before has died away


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
    """`quick` shrinks everything to see that it works; its figures mean nothing."""

    bar: Bar
    rounds: int
    quick: bool = False

    def sizes(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Measurement:
    """`rounds` is how often its contestants take turns."""

    name: str
    title: str
    measure: Callable[[Run], Finding]
    rounds: int = 5


def perform(measurement: Measurement, console: Console, *, rounds: int | None, quick: bool, busy_ok: bool) -> Result:
    """Raises Busy when others use the machine, unless `busy_ok`."""
    before = _wait_until_quiet(console, patience=0.0 if busy_ok else _QUIET_PATIENCE)
    if before > QUIET and not busy_ok:
        raise Busy(f"Others use {before:.2f} cores of this machine: figures would mean nothing. --busy-ok measures.")
    if before > QUIET:
        console.print(f"[bold red]The machine is busy ({before:.2f} cores in use by others): do not trust this.")
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
    """The cores in use, once they are few, or when patience ends."""
    deadline = time.monotonic() + patience
    while (used := busy_cores()) > QUIET and time.monotonic() < deadline:
        console.print(f"Waiting for a quiet machine: {used:.2f} cores in use")
    return used
