"""torch lives on the inference thread alone: a second thread that computes halves the speed of steps on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.model
def test_no_other_thread_touches_torch(embedded_model: Path) -> None:
    environment = {
        **os.environ,
        "MODEL": embedded_model.name,
        "MODELS_DIR": str(embedded_model.parent),
        "MAX_SEQUENCES": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.torch_threads"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen.pop("inference", None), "the watch sees what the inference thread does"
    assert not seen
