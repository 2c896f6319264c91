"""What the measurements make of what their contestants told."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.errors import Failed
from bench.load.outcome import Outcome
from bench.measures import no_limit, overcommit
from bench.measures.kv_loads import most_beside, peak_beside
from bench.workers.earlier import files_of


def told(*loads: tuple[float, int, int]) -> dict[str, Any]:
    """Two sequences whose tokens come at 1, 2 … 6 and at 3, 4 … 6; loads as (time, running, KV tokens used)."""
    came = [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3.0, 4.0, 5.0, 6.0]]
    return {"came": came, "loads": [[*load, 0] for load in loads]}


def test_memory_beside_what_is_needed_is_the_most_while_all_run() -> None:
    loads = ((0.5, 2, 900), (3.5, 2, 160), (4.5, 2, 192), (5.5, 1, 900), (6.5, 2, 900))
    assert most_beside(told(*loads), [100, 50]) == 192 - 150 - 6


def test_the_peak_beside_what_is_needed_counts_before_all_have_begun_and_until_one_ends() -> None:
    loads = ((0.5, 2, 900), (3.5, 2, 160), (4.5, 2, 192), (6.5, 2, 2000))
    assert peak_beside(told(*loads), [100, 50]) == 900 - 150


def test_sequences_that_did_not_run_at_the_same_time_are_no_measurement() -> None:
    with pytest.raises(Failed, match="same time"):
        most_beside(told((2.0, 2, 100), (4.0, 1, 100)), [1, 1])


def test_refused_requests_are_counted_and_other_errors_end_the_measurement() -> None:
    found = [Outcome(0, 4, (1,), "a", 30), Outcome(0, 2, error="Broken: 429: full")]
    finding = no_limit._finding({no_limit.OPEN: [found], no_limit.TIGHT: [found[:1]]}, clients=2, requests=2)
    speed, at_once, refused = finding.rows
    assert speed.value.median == 1
    assert (at_once.value.median, at_once.held) == (1, False)
    assert (refused.value.median, refused.held) == (1, False)
    cut = [Outcome(0, 2, error="ReadError: cut")]
    with pytest.raises(Failed, match="cut"):
        no_limit._finding({no_limit.OPEN: [cut], no_limit.TIGHT: [cut]}, clients=1, requests=1)


def test_overcommitted_memory_is_compared_with_the_best_number_of_places() -> None:
    def round_(seconds: float, *answers: list[int]) -> dict[str, Any]:
        return {"seconds": seconds, "answers": answers, "loads": [[0.0, 2, 64, 9]]}

    right, wrong = ([1, 2], [3, 4]), ([1, 2], [3, 5])
    rounds = {
        overcommit.ROOM: [round_(1, *right)],
        overcommit.ALL: [round_(4, *wrong)],
        "8 places": [round_(5, *right)],
        "10 places": [round_(2, *right)],
    }
    speed, exact = overcommit._finding(rounds, count=2, tokens=2, needed=192).rows
    assert "10 places" in speed.measure
    assert (speed.value.median, speed.held) == (0.5, False)
    assert (exact.value.median, exact.held) == (1, False)


def test_an_earlier_commits_files_are_had_from_git(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.invalid", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    for content in ("before", "after"):
        (tmp_path / "file").write_text(content)
        git("add", "file")
        git("commit", "--quiet", "--message", content)
    earlier = files_of(git("rev-parse", "--short", "HEAD~1"), tmp_path)
    assert (earlier / "file").read_text() == "before"
    assert files_of(earlier.name, tmp_path) == earlier
    with pytest.raises(Failed, match="no commit 1234567"):
        files_of("1234567", tmp_path)
