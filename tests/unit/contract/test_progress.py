"""Stages are true for a request that ends in any of them, and sum to its duration."""

import pytest

from app.contract.events import Timings
from app.contract.progress import Progress

MOMENTS = ("prepared_at", "opened_at", "started_at", "first_token_at")
STAGES = ("prepare", "grammar", "queue", "prefill", "decode")


@pytest.mark.parametrize("reached", range(5))
def test_the_stage_that_a_request_ends_in_lasts_until_its_end(reached: int) -> None:
    progress = Progress(arrived_at=100.0)
    for number, moment in enumerate(MOMENTS[:reached], start=1):
        setattr(progress, moment, 100.0 + number)
    timings = progress.timings(110.0)
    expected = dict.fromkeys(STAGES[:reached], 1.0) | {STAGES[reached]: 10.0 - reached}
    assert timings == Timings(**expected)
    assert timings.total == 10.0


def test_an_engine_that_does_not_tell_when_it_began_has_its_time_in_the_queue() -> None:
    progress = Progress(100.0, 101.0, 101.5, first_token_at=103.0)
    assert progress.timings(104.0) == Timings(prepare=1.0, grammar=0.5, queue=1.5, decode=1.0)


def test_what_the_engine_notes_after_the_end_changes_nothing() -> None:
    """Its thread may begin a request at the moment at which the client leaves."""
    progress = Progress(100.0, 101.0, 101.0, started_at=103.0)
    assert progress.timings(102.0) == Timings(prepare=1.0, queue=1.0)


def test_the_batch_of_an_answer_without_a_step_has_no_mean() -> None:
    progress = Progress(100.0)
    assert progress.mean_batch is None
    progress.steps, progress.neighbours = 4, 10
    assert progress.mean_batch == 2.5
