"""The app's memory: its growth over many requests, and its peak."""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Failed
from bench.load.ask import Classic
from bench.load.loop import closed_loop
from bench.prompts import questions
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.servers.stack import RunningStack, running_stack

GROWTH = 1.05
WORKING_GB = 0.7
EARLY, LATE = 400, 2000  # requests; at the first mark every page of the KV cache was used
CLIENTS = 32
TOKENS = 8
LONG_TOKENS = 64
SAID = {"weights": "for weights", "kv_cache": "for the KV cache", "working": "to work in", "most": "together"}
"""What the server says at its start that it needs at most."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    resident: int  # of the worker, which owns the model
    together: int  # of worker and master, pages that they share counted once
    peak: int  # the most that the worker ever had resident, and what the master has beside it


def measure(run: Run) -> Finding:
    early, late = run.sizes(EARLY, 40), run.sizes(LATE, 120)
    marks = [early, *range(5 * early, late, 5 * early), late]
    seen: dict[int, Memory] = {}
    run.bar.total(len(marks) + 1)
    run.bar.say("starting the stack")
    with _without_triton() as path, running_stack({"PYTHONPATH": path}) as stack:
        done = 0
        for mark in marks:
            run.bar.say(f"requests {done} to {mark}")
            _ask(stack, mark - done, done, TOKENS)
            done = mark
            seen[mark] = _memory(stack)
            run.bar.step()
        run.bar.say("longer answers")
        _ask(stack, run.sizes(4 * CLIENTS, CLIENTS), done, LONG_TOKENS)
        last = _memory(stack)
        said = {name: stack.said(f"{name}_bytes") for name in SAID}
        run.bar.step()
    return _finding(seen, early, late, last, said)


@contextmanager
def _without_triton() -> Iterator[str]:
    """A folder for Python's path where importing Triton fails, as on every machine without a GPU: only the tests
    install it there. torch's compiler imports it wherever it is, which takes 67 MB."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        (Path(folder) / "triton.py").write_text("raise ImportError('only the tests have it')\n", encoding="ascii")
        yield folder


def _ask(stack: RunningStack, requests: int, start: int, tokens: int) -> None:
    outcomes = asyncio.run(closed_loop(Classic(stack.base, tokens), questions(requests, start), CLIENTS))
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if errors:
        raise Failed(f"{len(errors)} errors: {errors[0]}")


def _memory(stack: RunningStack) -> Memory:
    worker, *others = sorted(stack.app_processes(), key=lambda each: int(each.memory_info().rss), reverse=True)
    beside = sum(each.memory_full_info().pss for each in others)
    info = worker.memory_full_info()
    return Memory(info.rss, info.pss + beside, _most_resident(worker.pid) + beside)


def _most_resident(pid: int) -> int:
    """The peak since the process began, as the kernel counts it."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def _finding(seen: dict[int, Memory], early: int, late: int, last: Memory, said: dict[str, float]) -> Finding:
    rows = [
        Row(
            measure=f"resident memory after {late:,} requests against after {early}",
            value=Spread.of([seen[late].resident / seen[early].resident]),
            target=GROWTH,
            bound="at most",
        ),
        Row(
            measure=f"memory beside weights and KV cache, the most under {CLIENTS} clients",
            value=Spread.of([(last.peak - said["weights"] - said["kv_cache"]) / 1e9]),
            target=WORKING_GB,
            bound="at most",
            unit="GB",
        ),
        Row(
            measure="the server's memory against what it said at its start that it needs",
            value=Spread.of([last.peak / said["most"]]),
            target=1.0,
            bound="at most",
        ),
    ]
    lines: list[list[Cell]] = [
        [f"{number:,} requests", *_gigabytes(memory)] for number, memory in sorted(seen.items())
    ]
    lines.append([f"and {LONG_TOKENS} tokens each", *_gigabytes(last)])
    columns = ["after", "worker, GB", "with gunicorn's master, GB", "the most so far, GB"]
    parts = ", ".join(f"{said[name] / 1e9:.2f} GB {use}" for name, use in SAID.items() if name != "most")
    notes = [
        f"Resident memory under {CLIENTS} clients through nginx, no question twice, answers of {TOKENS} tokens.",
        "The most includes loading the model.",
        "Triton is hidden: on a machine without a GPU only the tests install it.",
        f"The server said at its start that it needs at most {parts}.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)


def _gigabytes(memory: Memory) -> list[float]:
    return [value / 1e9 for value in (memory.resident, memory.together, memory.peak)]
