"""The version that metrics tell is the project's."""

import tomllib

from app.contract.version import VERSION
from stack.config import ROOT


def test_it_is_the_projects() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"] == VERSION
