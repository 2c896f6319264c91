"""What takes many minutes or gigabytes: `make test-long`."""

import re
import subprocess

import pytest

from tests.machines import gpus
from tests.machines.asking import answer
from tests.machines.conftest import Machines
from tests.machines.gpus import RTX_4090
from tests.machines.images import OFFLINE, image

pytestmark = pytest.mark.long


def test_debian_13_with_nothing_configured_is_served_and_its_cards_are_missed(machine: Machines) -> None:
    """A plain package index, and Python 3.13: where PyTorch's own index does not answer, its CUDA build is what there
    is. It serves the small model on the CPU. Cards that its CUDA cannot reach end the next start."""
    debian = machine(image("fresh", "trixie"), pip=False)
    up = debian.up(patience=3600)
    assert up.code == 0, up.output
    assert "Serving smollm2-135m" in up.output
    assert re.search(r"^torch 2\.\S+ is installed: \d{4} MB", up.output, re.MULTILINE), up.output
    assert "Serving without" not in up.output
    assert answer(debian)
    smoke = debian.run("make smoke")
    assert smoke.code == 0, smoke.output
    debian.down()

    gpus.install(debian, [RTX_4090] * 2)
    without = debian.up("TORCH_BUILD=cpu", patience=600)
    assert without.code != 0
    assert "MODEL=smollm2-135m" in without.output


def test_make_test_passes_on_a_bare_debian_12() -> None:
    """As a new user has it: a clean clone of the last commit."""
    done = subprocess.run([OFFLINE / "fresh-machine.sh", "make test"], check=False)
    assert done.returncode == 0
