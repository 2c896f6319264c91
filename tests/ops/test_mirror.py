"""tests/unit mirrors app/, so that a module's tests are found by its path."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITES = {"engine/test_exactness.py", "engine/test_two_gpus.py", "engine/test_waits.py"}
"""They test several modules together."""

OUTSIDE_APP = ("bench/", "support/")


def test_every_unit_test_has_the_path_of_its_module() -> None:
    unit = ROOT / "tests" / "unit"
    names = {path.relative_to(unit).as_posix() for path in unit.rglob("test_*.py")}
    mirrored = [name for name in names - SUITES if not name.startswith(OUTSIDE_APP)]
    assert mirrored
    assert [name for name in mirrored if not (ROOT / "app" / name.replace("test_", "", 1)).is_file()] == []
