"""Somebody who may not install anything is told what root has to install. Once it is there: test_cards.py."""

from tests.machines.conftest import Machines
from tests.machines.images import image
from tests.machines.machine import SOON


def test_without_python_make_names_the_package(machine: Machines) -> None:
    up = machine(image("account"), user="somebody").up(patience=SOON)
    assert up.code != 0
    assert up.output.splitlines()[0].startswith("There is no python3. Install Python")
    assert "apt-get install python3 python3-venv" in up.output


def test_without_nginx_the_preflight_names_the_packages(machine: Machines) -> None:
    up = machine(image("python"), user="somebody").up(patience=SOON)
    assert up.code != 0
    assert "apt-get install --no-install-recommends nginx" in up.output
    assert "Creating the virtual environment" not in up.output
