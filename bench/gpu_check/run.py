"""Runs the sections within the time of all."""

import time
from collections.abc import Callable, Iterator, Mapping

from bench.gpu_check.report import REST, SECTION_SECONDS, Report, Row


def run_all(
    report: Report,
    works: Mapping[str, Callable[[], Iterator[Row]]],
    *,
    until: float,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Run each section until `until` on the clock `now`, or REST seconds longer. Those whose turn would come later
    are left out."""
    for name, work in works.items():
        left = until - now()
        if left > 0:
            report.run(name, work, seconds=min(SECTION_SECONDS, left + REST))
        else:
            report.leave_out(name, "the time is over")
