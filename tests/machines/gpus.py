"""GPUs for a machine, as far as detection goes: a driver that lists them, and its device nodes. Nothing computes."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tests.machines.images import DOCKERFILES, image
from tests.machines.machine import Machine

CURRENT_DRIVER = "580.95.05"
_LIBRARY = "/usr/lib/libnvidia-ml.so.1"
_COLUMNS = "index,uuid,name,memory.total,memory.free,driver_version,compute_cap"


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    mebibytes: int
    capability: str


RTX_4090 = Card("NVIDIA GeForce RTX 4090", 24_564, "8.9")
RTX_2070 = Card("NVIDIA GeForce RTX 2070", 8192, "7.5")
TESLA_K80 = Card("Tesla K80", 11_441, "3.7")


def install(machine: Machine, cards: Sequence[Card], driver: str = CURRENT_DRIVER) -> None:
    rows = [
        f"{index},GPU-{index:08x}-1111-2222-3333-444444444444,{card.name},{card.mebibytes},{card.mebibytes - 300},"
        f"{driver},{card.capability}"
        for index, card in enumerate(cards)
    ]
    machine.write("/etc/gpus.csv", "\n".join([_COLUMNS, *rows, ""]).encode())
    machine.write("/usr/bin/nvidia-smi", (DOCKERFILES / "driver" / "nvidia-smi").read_bytes(), mode="755")
    machine.write(_LIBRARY, _library())
    nodes = [("nvidiactl", 255), ("nvidia-uvm", 0), *((f"nvidia{index}", index) for index in range(len(cards)))]
    made = " && ".join(f"mknod --mode=666 /dev/{name} c 195 {minor}" for name, minor in nodes)
    done = machine.run(f"ldconfig && rm -f /dev/nvidia* && {made}", reported=False)
    assert done.code == 0, done.output


def remove(machine: Machine) -> None:
    gone = f"rm -f /dev/nvidia* /etc/gpus.csv /usr/bin/nvidia-smi {_LIBRARY} && ldconfig"
    assert machine.run(gone, reported=False).code == 0


@cache
def _library() -> bytes:
    show = ["docker", "run", "--rm", image("compiler"), "cat", "/libnvidia-ml.so.1"]
    return subprocess.run(show, check=True, stdout=subprocess.PIPE).stdout
