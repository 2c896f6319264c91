"""Every kernel compiles in bfloat16 for each generation of cards, and its tiles fit the card's shared memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.compile_kernels import ROOM, forms


@pytest.mark.parametrize("capability", [86, *(pytest.param(other, marks=pytest.mark.long) for other in (80, 89, 90))])
def test_kernels_fit_the_shared_memory_of(capability: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.compile_kernels", str(capability)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shared = json.loads(done.stdout)
    assert set(shared) == set(forms(ROOM[capability]))
    assert {name: size for name, size in shared.items() if size > ROOM[capability]} == {}
