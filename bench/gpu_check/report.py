"""The findings of the sections: printed at once, written after each section, and as a table at the end."""

import json
import re
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TABLE_LINES = 60

SECTION_SECONDS = 150.0
"""What one section may take, so that one that hangs leaves time for the others."""

REST = 10.0
"""Seconds that the last section may take beyond the time of all, so that it is not begun in vain."""

AGAIN = 5.0
"""Seconds until a section whose time is over is told again: a library may have swallowed the first time."""


class TimeIsOverError(BaseException):
    """A section took too long. No Exception: the engine takes those for one step's failure, and goes on."""


@dataclass(frozen=True, slots=True)
class Row:
    """One finding. `ok` is None for a figure without a bound. `must` marks what the table shows first: a measure that
    has a bound on some machine (`bounds.py`)."""

    name: str
    value: float | str
    unit: str = ""
    ok: bool | None = None
    note: str = ""
    detail: Any = None  # for the JSON alone
    must: bool = False

    def line(self) -> str:
        value = f"{self.value:,.4g}" if isinstance(self.value, float) else str(self.value)
        mark = {None: "", True: "ok", False: "FAILED"}[self.ok]
        return f"  {self.name:44} {value:>12} {self.unit:10} {mark:6} {self.note}".rstrip()


@dataclass(slots=True)
class Section:
    name: str
    seconds: float = 0.0
    error: str = ""
    rows: list[Row] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return bool(self.error) or any(row.ok is False for row in self.rows)


@dataclass(slots=True)
class Check:
    """One run on one machine, as a result file has it."""

    card: str
    date: str  # UTC, to the minute
    commit: str
    sections: list[Section] = field(default_factory=list)


class Report:
    """The findings of all sections, in a file that is rewritten after each finding."""

    def __init__(self, out: Path, check: Check) -> None:
        self._path = out / f"{slug(check.card)}.json"
        self._check = check
        self.sections = check.sections

    def run(self, name: str, work: Callable[[], Iterator[Row]], seconds: float = SECTION_SECONDS) -> None:
        """Run one section for `seconds` at most. An error in it is noted, and the other sections still run."""
        section = Section(name)
        self.sections.append(section)
        print(f"== {name}", flush=True)
        begun = time.monotonic()
        try:
            with _at_most(seconds):
                for row in work():
                    section.rows.append(row)
                    print(row.line(), flush=True)
                    self._write()
        except (Exception, TimeIsOverError) as error:  # noqa: BLE001  # a failing section must not stop the others
            section.error = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        section.seconds = round(time.monotonic() - begun, 1)
        self._write()

    def leave_out(self, name: str, reason: str) -> None:
        """Note a section that was not run."""
        row = Row(name, "left out", note=reason)
        self.sections.append(Section(name, rows=[row]))
        print(f"== {name}\n{row.line()}", flush=True)
        self._write()

    @property
    def failed(self) -> bool:
        return any(section.failed for section in self.sections)

    def table(self) -> str:
        """At most TABLE_LINES lines: first what failed, then the measures with bounds, then the rest by section."""
        lines = [*self._failures(), *self._musts()]
        for section in self.sections:
            rows = [row for row in section.rows if row.ok is not False and not row.must]
            if rows:
                lines += [f"{section.name} ({section.seconds:g} s)", *(row.line() for row in rows)]
        if len(lines) > TABLE_LINES:
            lines = [*lines[: TABLE_LINES - 1], f"… and {len(lines) - TABLE_LINES + 1} more lines in the JSON"]
        return "\n".join(line[:160] for line in lines)

    def _failures(self) -> list[str]:
        lines = []
        for section in self.sections:
            if section.error:
                lines.append(f"FAILED: {section.name} after {section.seconds:g} s: {section.error}")
            lines += [row.line() for row in section.rows if row.ok is False]
        return lines

    def _musts(self) -> list[str]:
        rows = [row.line() for section in self.sections for row in section.rows if row.must and row.ok is not False]
        return ["measures that have bounds", *rows] if rows else []

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(asdict(self._check), indent=1) + "\n", encoding="utf-8")


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises TimeIsOverError where the work is when the time is over; a call into a library ends first."""

    def over(_signal: int, _frame: object) -> None:
        raise TimeIsOverError(f"it took longer than {seconds:.3g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def slug(card: str) -> str:
    """A file's name for a card: NVIDIA H100 80GB HBM3 is nvidia-h100-80gb-hbm3."""
    return re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")


def load_all(folder: Path) -> list[Check]:
    """The committed runs, one for each card."""
    return [_check(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.glob("*.json"))]


def _check(document: dict[str, Any]) -> Check:
    sections = [
        Section(**section | {"rows": [Row(**row) for row in section["rows"]]}) for section in document["sections"]
    ]
    return Check(**document | {"sections": sections})
