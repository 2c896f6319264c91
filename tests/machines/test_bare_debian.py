"""Debian as it comes: root types `make up`, and it installs the rest or says what it cannot do without."""

import json

import pytest

from tests.machines.asking import answer
from tests.machines.conftest import Machines
from tests.machines.images import image
from tests.machines.machine import SOON, Machine


@pytest.fixture(scope="module")
def newer(machine: Machines) -> Machine:
    """Debian 13, whose Python is 3.13. The whole start is in test_long.py: PyTorch may come with gigabytes there."""
    return machine(image("prepared", "trixie"))


def test_debian_12_answers_and_a_second_start_leaves_it_alone(machine: Machines) -> None:
    debian = machine(image("fresh"))
    up = debian.up()
    assert up.code == 0, up.output
    assert answer(debian)
    before = debian.run("cat var/native/supervisord.pid", reported=False).output
    again = debian.up()
    assert again.code == 0, again.output
    assert debian.run("cat var/native/supervisord.pid", reported=False).output == before
    debian.down()


def test_debian_11_is_told_which_python_to_install(machine: Machines) -> None:
    """Its Python is 3.9: the host's tool runs on it, and the app does not."""
    up = machine(image("fresh", "bullseye")).up(patience=SOON)
    assert up.code != 0
    assert "need Python 3.11 or newer for the app, but python3 is 3.9" in up.output
    assert "apt-get install python3.11" in up.output
    assert "or use Docker" in up.output


def test_debian_13_has_a_wheel_of_every_locked_package(newer: Machine) -> None:
    doctor = newer.run("make doctor")
    assert doctor.code == 0, doctor.output
    resolve = "pip install --dry-run --only-binary :all: --require-hashes --no-deps -r requirements/runtime.lock"
    resolved = newer.run(f"python3 -m venv /srv/v && /srv/v/bin/{resolve}")
    assert resolved.code == 0, resolved.output


def test_debian_13_runs_what_stands_beside_the_app(newer: Machine) -> None:
    """Its nginx, Prometheus and exporter are newer; the exporter knows other options."""
    done = newer.run("python3 -m tests.machines.beside_the_app")
    assert done.code == 0, done.output
    assert json.loads(done.output.splitlines()[-1]) == {"app": "down", "nginx": "up", "prometheus": "up"}, done.output
