"""RESULTS.md is written from what was stored, and says honestly what held."""

from pathlib import Path

from bench.gpu_check.report import load_all as load_checks
from bench.machine import Machine
from bench.measures import MEASUREMENTS
from bench.report import document, markdown
from bench.results import RESULTS, Finding, Result, Row, Spread, Table, load_all, save

MACHINE = Machine(
    cpu="A CPU", flags=["avx2"], cores=2, memory_gib=8, python="3.11.7", torch="2.13.0", transformers="5.23.0"
)


def result(name: str, *rows: Row, busy: float = 0.0, cpu: str = "A CPU") -> Result:
    return Result(
        name=name,
        title=f"Title of {name}",
        finding=Finding(rows=list(rows), table=Table(columns=["batch", "tokens/s"], rows=[[1, 41.26], [4, None]])),
        machine=MACHINE.model_copy(update={"cpu": cpu}),
        commit="abc1234",
        date="2026-01-02 03:04 UTC",
        seconds=9,
        busy_cores=(0.0, busy),
        load_average=(0.1, 2.0),
    )


def line(text: str, start: str) -> str:
    return next(each for each in text.splitlines() if each.startswith(f"| {start} "))


def test_a_row_says_whether_its_median_holds_the_target() -> None:
    speed = Row(measure="speed", value=Spread.of_ratios([10, 30, 18], [10, 10, 10]), target=1.4)
    memory = Row(measure="memory", value=Spread.of([2.5]), target=2, bound="at most", unit="GB")
    shown = Row(measure="shown", value=Spread.of([9.0]))
    text = markdown([result("one", speed, memory, shown)])
    assert line(text, "speed") == (
        "| speed | at least 1.4 times | 1.80 times | 1.00 to 3.00, 3 rounds | yes | abc1234, 2026-01-02 03:04 UTC |"
    )
    assert "| at most 2 GB | 2.50 GB | one round | **no** |" in line(text, "memory")
    assert speed.held
    assert memory.held is False
    assert shown.held is None


def test_the_table_is_written_from_partial_runs_in_the_order_of_the_measurements(tmp_path: Path) -> None:
    for each in (result("later", cpu="Another CPU"), result("first", busy=1.0)):
        save(each, tmp_path)
    results = load_all(["first", "missing", "later"], tmp_path)
    assert [each.name for each in results] == ["first", "later"]
    text = markdown(results)
    assert text.index("Title of first") < text.index("Title of later")
    assert "- first: A CPU;" in text
    assert "- later: Another CPU;" in text
    assert text.count("The machine was busy") == 1
    assert line(text, "1") == "| 1 | 41.3 |"


def test_the_committed_table_is_the_one_that_the_committed_results_give() -> None:
    results = load_all([measurement.name for measurement in MEASUREMENTS])
    path = RESULTS.parent / "RESULTS.md"
    expected = document(results, load_checks(RESULTS / "gpu"))
    assert (path.read_text(encoding="utf-8") if path.exists() else document([], [])) == expected
