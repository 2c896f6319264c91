"""What NVIDIA's driver shows decides what is served, or how the start ends: with the CPU build of PyTorch, which can
use no card. The machine is somebody's, who may not install anything; root has installed Debian's packages.
"""

from collections.abc import Iterator, Sequence

import pytest

from tests.machines import gpus
from tests.machines.asking import answer
from tests.machines.conftest import Machines
from tests.machines.gpus import RTX_2070, RTX_4090, TESLA_K80, Card
from tests.machines.images import image
from tests.machines.machine import SOON, Machine

CPU_BUILD = "TORCH_BUILD=cpu"  # else the start would install the build for these cards: gigabytes, in test_long.py


@pytest.fixture(scope="module")
def installed(machine: Machines) -> Machine:
    """A first start has made the environment and fetched the small model."""
    debian = machine(image("prepared"), user="somebody")
    up = debian.up()
    assert up.code == 0, up.output
    assert "Serving smollm2-135m" in up.output
    assert answer(debian)
    debian.down()
    return debian


@pytest.fixture
def with_cards(installed: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    cards: Sequence[Card]
    cards, driver = request.param
    gpus.install(installed, cards, driver)
    yield installed
    gpus.remove(installed)


@pytest.mark.parametrize("with_cards", [([RTX_4090] * 2, gpus.CURRENT_DRIVER)], indirect=True)
def test_cards_that_torch_cannot_use_end_the_start(with_cards: Machine) -> None:
    up = with_cards.up(CPU_BUILD, patience=SOON)
    assert up.code != 0
    assert "is built without CUDA" in up.output
    assert "MODEL=smollm2-135m" in up.output
    assert "Starting nginx" not in up.output


@pytest.mark.parametrize("with_cards", [([RTX_4090] * 2, gpus.CURRENT_DRIVER)], indirect=True)
def test_the_small_model_can_be_had_on_purpose(with_cards: Machine) -> None:
    up = with_cards.up(f"{CPU_BUILD} MODEL=smollm2-135m")
    assert up.code == 0, up.output
    assert "Serving smollm2-135m" in up.output
    assert answer(with_cards)
    with_cards.down()


@pytest.mark.parametrize("with_cards", [([RTX_2070] * 2, gpus.CURRENT_DRIVER)], indirect=True)
def test_cards_that_are_too_small_serve_the_small_model_and_say_so(with_cards: Machine) -> None:
    up = with_cards.up(CPU_BUILD)
    assert up.code == 0, up.output
    assert "too much for NVIDIA GeForce RTX 2070 (8.0 GiB), NVIDIA GeForce RTX 2070 (8.0 GiB)" in up.output
    assert "Serving smollm2-135m" in up.output
    with_cards.down()


@pytest.mark.parametrize("with_cards", [([TESLA_K80] * 4, "470.256.02")], indirect=True)
def test_an_old_driver_is_told_to_be_updated(with_cards: Machine) -> None:
    up = with_cards.up(patience=SOON)
    assert up.code != 0
    assert "driver 470.256.02 is older than the 525" in up.output
    assert "Update the driver" in up.output
    assert "MODEL=smollm2-135m" in up.output


@pytest.mark.parametrize(
    ("with_cards", "build"),
    [
        (([RTX_4090] * 2, "550.163.01"), "PyTorch's CUDA 12.6 build"),
        (([RTX_4090] * 2, gpus.CURRENT_DRIVER), "PyTorch's default CUDA build"),
    ],
    indirect=["with_cards"],
)
def test_the_driver_chooses_the_build_of_torch(with_cards: Machine, build: str) -> None:
    doctor = with_cards.run("make doctor", user=with_cards.user)
    assert doctor.code == 0, doctor.output
    assert f"{build} runs on it" in doctor.output
