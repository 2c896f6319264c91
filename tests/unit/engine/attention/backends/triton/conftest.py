"""Kernels over pages in the interpreter."""

import pytest

from app.engine.attention.backends.triton import splits


@pytest.fixture(autouse=True)
def _few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter runs them one after the other: one row in eight parts, eight rows in one."""
    monkeypatch.setattr(splits, "PROGRAMS", 8)
