"""What every kind of test shares: the embedded model's files, and a listener that remembers."""

import os
from pathlib import Path

import pytest

from tests.support.recorder import Recorder

ROOT = Path(__file__).parent.parent

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # as the server sets it (app/engine/local.py), before torch loads


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
