"""bench/RESULTS.md, written anew from the results that exist."""

from collections.abc import Sequence

from bench.gpu_check.report import Check
from bench.gpu_check.table import markdown as gpu_markdown
from bench.machine import QUIET, Machine
from bench.results import Cell, Result, Row, Spread

_HEAD = """# Results

Written by `make bench` from `bench/results/`; [README.md](README.md) says what each measurement does. Every figure
is a ratio of contestants that took turns in one run: the median of the rounds, with the lowest and the highest.
"""


def document(results: Sequence[Result], checks: Sequence[Check]) -> str:
    """The whole file: the measurements, then the runs on real GPUs."""
    return f"{markdown(results)}\n{gpu_markdown(checks)}" if checks else markdown(results)


def markdown(results: Sequence[Result]) -> str:
    parts = [_HEAD, "## Targets\n", _targets(results)]
    if results:
        parts += ["## The machine\n", *_machines(results)]
    parts += [_section(result) for result in results]
    return "\n".join(parts)


def _targets(results: Sequence[Result]) -> str:
    rows = [
        [row.measure, _target(row), _value(row), _range(row.value), _held(row), _when(result)]
        for result in results
        for row in result.finding.rows
    ]
    return _table(["measure", "target", "measured", "lowest to highest", "held", "commit, date"], rows)


def _machines(results: Sequence[Result]) -> list[str]:
    """One line per machine; a partial run on another machine says so."""
    by_machine: dict[str, list[str]] = {}
    for result in results:
        by_machine.setdefault(_sentence(result.machine), []).append(result.name)
    if len(by_machine) == 1:
        return [f"{next(iter(by_machine))}\n"]
    return [f"- {', '.join(names)}: {sentence}" for sentence, names in by_machine.items()] + [""]


def _sentence(machine: Machine) -> str:
    flags = ", ".join(machine.flags) or "none of AVX2, AVX-512, AMX"
    return (
        f"{machine.cpu}; {machine.cores} cores ({flags}); {machine.memory_gib:g} GiB of memory; "
        f"Python {machine.python}, torch {machine.torch}, transformers {machine.transformers}."
    )


def _section(result: Result) -> str:
    lines = [f"## {result.title}\n", _table(result.finding.table.columns, result.finding.table.rows)]
    lines += [f"- {note}" for note in result.finding.notes]
    before, after = result.busy_cores
    warning = " **The machine was busy: measure again.**" if max(before, after) > QUIET else ""
    lines.append(
        f"- {_when(result)}; took {result.seconds:.0f} s; cores in use by others before and after: {before:.2f}, "
        f"{after:.2f}; load average {result.load_average[0]:.2f}, {result.load_average[1]:.2f}.{warning}\n"
    )
    return "\n".join(lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return number(value)
    return str(value)


def number(value: float) -> str:
    """Rounded: these figures are not exact to three digits."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 0.1:
        return f"{value:.2f}"
    return f"{value:.4f}"


def _target(row: Row) -> str:
    return "–" if row.target is None else f"{row.bound} {row.target:g} {row.unit}"


def _value(row: Row) -> str:
    return f"{number(row.value.median)} {row.unit}"


def _range(spread: Spread) -> str:
    if spread.rounds == 1:
        return "one round"
    return f"{number(spread.low)} to {number(spread.high)}, {spread.rounds} rounds"


def _held(row: Row) -> str:
    return {True: "yes", False: "**no**", None: "–"}[row.held]


def _when(result: Result) -> str:
    return f"{result.commit}, {result.date}"
