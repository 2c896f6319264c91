"""What every kind of test shares: the embedded model's files, and a listener that remembers."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.support.recorder import Recorder

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.support.parallel import ByFile

ROOT = Path(__file__).parent.parent

IN_PARALLEL = "PYTEST_XDIST_WORKER" in os.environ
if IN_PARALLEL:  # the other tests compute on the other cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # as app/engine/libraries.py does
if not Path("/proc/driver/nvidia").exists():  # the kernels for GPUs run on CPU tensors; set before Triton loads
    os.environ.setdefault("TRITON_INTERPRET", "1")
hypothesis.settings.register_profile("patient", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("patient")  # a busy machine is not an error

LONGEST = ("tests/e2e/", "tests/contracts/", "tests/unit/engine/", "tests/page/", "tests/api/")
"""What takes longest, longest first, so that no process is left alone with it at the end."""


NOT_MEASURED = ("model", "native", "docker", "machines", "long", "cluster")
"""Markers of tests in which coverage pauses: they compute for minutes, or start the app as a process of its own."""


@pytest.hookimpl(trylast=True)  # tests/e2e/conftest.py marks its tests
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(item.get_closest_marker(name) for name in NOT_MEASURED):
            item.add_marker("no_cover")  # pytest-cov's
    if IN_PARALLEL:
        ranks = {folder: rank for rank, folder in enumerate(LONGEST)}
        items.sort(key=lambda item: next((ranks[f] for f in LONGEST if item.nodeid.startswith(f)), len(ranks)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process for each core that this one may use; more than four would wait for the end-to-end tests."""
    return min(4, len(os.sched_getaffinity(0)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "ByFile":
    from tests.support.parallel import ByFile  # noqa: PLC0415  # a run in one process needs no xdist

    return ByFile(config, log)


@pytest.fixture(scope="session")
def embedded_model() -> Path:
    """The folder of the embedded model, fetched when it is missing."""
    models_dir = Path(os.environ.get("MODELS_DIR") or ROOT / "var" / "models")
    folder = models_dir / "smollm2-135m"
    if not (folder / "config.json").is_file():
        from app.models.download.fetch import fetch  # noqa: PLC0415  # needs more than a test of text does

        folder = fetch("smollm2-135m", models_dir)
    return folder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
