"""Ports that are taken, and a disk that is too small: said before anything is installed or fetched."""

from tests.machines.conftest import Machines
from tests.machines.images import image
from tests.machines.machine import SOON

NOTHING_BEGUN = "Creating the virtual environment"


def test_taken_ports_are_named_with_their_holder_and_another_choice(machine: Machines) -> None:
    debian = machine(image("prepared"), user="somebody")
    for port, user in ((6006, "somebody"), (9090, "root")):
        listen = f"setsid python3 -m http.server --bind 127.0.0.1 {port} >/dev/null 2>&1 </dev/null &"
        wait = f"until (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null; do sleep 0.1; done"
        debian.run(f"{listen} {wait}", user=user, reported=False)
    up = debian.up(patience=SOON)
    assert up.code != 0
    assert "HTTP_PORT=6006 is taken: python3" in up.output
    assert "PROMETHEUS_PORT=9090 is taken: a process of the user root" in up.output
    assert "make up HTTP_PORT=" in up.output
    assert NOTHING_BEGUN not in up.output
    assert debian.run("make doctor HTTP_PORT=6016 PROMETHEUS_PORT=9091").code == 0


def test_a_small_disk_is_told_what_is_wanted(machine: Machines) -> None:
    debian = machine(image("prepared"), user="somebody", disk=200 * 1024**2)
    up = debian.up(patience=SOON)
    assert up.code != 0
    assert "GB are free at /srv/checkout; needed:" in up.output
    assert "for PyTorch and the packages" in up.output
    assert NOTHING_BEGUN not in up.output
