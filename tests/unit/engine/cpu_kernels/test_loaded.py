"""The compiler runs in any surroundings: it finds modules where this process does, and says nothing by chance."""

from pathlib import Path

import pytest

from app.engine.cpu_kernels.loaded import MachineCode
from app.engine.cpu_kernels.shape import Shape

SHAPE = Shape("float32", 2, 1, 8, 0.3, 16, 24, 1e-5, 4)


def test_other_modules_in_the_working_directory_and_a_talkative_site_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "app", "numba"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger was imported')\n")
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("print('hello')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(site))
    assert MachineCode(SHAPE).address("attend") > 0
