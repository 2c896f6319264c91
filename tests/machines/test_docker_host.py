"""A host of containers with an old Debian: the host's tool on Python 3.9, and the engine of this machine.

The checkout is a folder of this machine, under the same path, because the engine mounts files from there.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.config import ROOT
from stack.host.ports import free_ports
from tests.machines.asking import answer
from tests.machines.conftest import Machines
from tests.machines.images import OFFLINE, image
from tests.machines.machine import SOON, Machine

SOCKET = "/var/run/docker.sock"
PLACE = ROOT / "var" / "docker-host"  # always the same one: images and volumes are named after it


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    yield PLACE
    shutil.rmtree(PLACE, ignore_errors=True)


@pytest.fixture(scope="module")
def host(machine: Machines, place: Path) -> Machine:
    shared = ["--volume", f"{place}:{place}", "--volume", f"{SOCKET}:{SOCKET}", "--network", "host"]
    debian = machine(image("client", "bullseye"), checkout=str(place), options=shared)
    assert debian.run("python3 --version", reported=False).output.startswith("Python 3.9.")
    return debian


@pytest.fixture(scope="module")
def base_images() -> None:
    """A bullseye in a container cannot make the stand-ins; where a registry answers, it pulls the real ones."""
    defaults = re.findall(r"\$\{([A-Z_]+)_IMAGE:-([^}]+)\}", (ROOT / "compose.yaml").read_text(encoding="utf-8"))
    for name, tag in defaults:
        kind = name.lower().replace("_", "-")
        if (OFFLINE / f"{kind}.Dockerfile").exists():
            subprocess.run([OFFLINE / "build.sh", kind, tag], check=True)


@pytest.mark.usefixtures("base_images")
def test_debian_11_serves_from_containers(host: Machine) -> None:
    http, prometheus, grafana = free_ports(3)
    settings = f"HTTP_PORT={http} PROMETHEUS_PORT={prometheus} GRAFANA_PORT={grafana}"
    try:
        up = host.up(settings)
        assert up.code == 0, up.output
        assert "Starting containers: Docker answers" in up.output
        assert answer(host, f"http://127.0.0.1:{http}")
    finally:
        host.down()


def test_debian_11_without_containers_is_told_which_python_to_install(host: Machine) -> None:
    up = host.up("MODE=native", patience=SOON)
    assert up.code != 0
    assert "need Python 3.11 or newer for the app, but python3 is 3.9" in up.output


def test_somebody_outside_the_group_docker_is_told_so(machine: Machines) -> None:
    shared = ["--volume", f"{SOCKET}:{SOCKET}"]
    assert Path(SOCKET).stat().st_mode & 0o007 == 0
    up = machine(image("client", "bullseye"), user="somebody", options=shared).up(patience=SOON)
    assert up.code != 0
    assert "Docker is installed, but this user may not use it" in up.output
    assert "usermod -aG docker" in up.output


def test_a_stopped_engine_is_not_taken_for_no_docker(machine: Machines) -> None:
    up = machine(image("client", "bullseye")).up("MODE=docker", patience=SOON)
    assert up.code != 0
    assert "Docker is installed, but its engine does not answer" in up.output
