"""The GPUs as NVIDIA's driver lists them, before there is a Python environment that could ask better.

`python -m app gpus` and `python -m app plan` are exact; this is what can be known within a second on a bare host.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from stack.config import ROOT

MIB = 1024**2
GIB = 1024**3
MODEL = "deepseek-coder-v2-lite"
SMALL = "smollm2-135m"
WEIGHTS = 31_412_968_448
"""Bytes of MODEL's weights in 16 bits; a test holds it against the app's own plan."""
LEAST_KV = 2048 * 31_104
"""Bytes of the least KV cache that the plan accepts."""
OLDEST_DRIVER = 525
"""CUDA 12 runs from there on (NVIDIA's "CUDA Compatibility": minor version compatibility)."""
NEW_DRIVER = 580
"""CUDA 13, and PyTorch's default build, run from there on."""
_FIELDS = "index,uuid,name,memory.total,driver_version"
_PCI = Path("/sys/bus/pci/devices")
_NVIDIA = "0x10de"
_HIDDEN = ("", "-1")


@dataclass(frozen=True)
class Gpu:
    name: str
    memory: int | None  # bytes; None where the driver does not say, as on a board that shares the machine's


@dataclass(frozen=True)
class Gpus:
    """`problem` says what is wrong with a driver or a card that is there; "" also where there is none."""

    found: tuple[Gpu, ...] = ()
    driver: str = ""
    problem: str = ""
    broken: bool = False  # somebody installed a driver, and cards may be there that it does not show

    @property
    def driver_number(self) -> int:
        """The number before the first dot; 0 when there is none."""
        first = self.driver.partition(".")[0]
        return int(first) if first.isdecimal() else 0

    def could_hold_the_model(self, reserve: float) -> bool:
        return self.could_hold(WEIGHTS + LEAST_KV, reserve)

    def could_hold(self, size: int, reserve: float) -> bool:
        """`size` bytes, by the memory that the cards have altogether, with `reserve` GiB of each left free."""
        if any(gpu.memory is None for gpu in self.found):
            return True  # the plan will tell
        usable = (max(0, (gpu.memory or 0) - reserve * GIB) for gpu in self.found)
        return sum(usable) >= size

    def __str__(self) -> str:
        names = ", ".join(f"{gpu.name} ({_gib(gpu.memory)})" for gpu in self.found)
        return f"{names}, driver {self.driver}"


def look(visible: str | None, pci: Path = _PCI) -> Gpus:
    """Ask nvidia-smi; where it is missing or fails, whether there is a card for it.

    `visible` is CUDA_VISIBLE_DEVICES.
    """
    if visible in _HIDDEN:
        return Gpus()
    if shutil.which("nvidia-smi") is None:
        return Gpus(problem="this machine has an NVIDIA GPU but no driver" if _has_card(pci) else "")
    ask = ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(ask, check=False, capture_output=True, text=True, timeout=20)
    except subprocess.TimeoutExpired:
        return Gpus(problem="NVIDIA's driver hangs: nvidia-smi did not answer within 20 seconds", broken=True)
    lines = done.stdout.splitlines()
    rows = [[field.strip() for field in line.split(",")] for line in lines if line.count(",") == _FIELDS.count(",")]
    said = [line for line in [*lines, *done.stderr.splitlines()] if line.strip() and line.count(",") < 4]
    problem = f"nvidia-smi says: {said[0].strip()}" if done.returncode != 0 and said else ""
    if not rows:
        return Gpus(problem=problem or "nvidia-smi lists no GPU", broken=True) if _has_card(pci) else Gpus()
    chosen = [row for row in rows if _is_visible(visible, index=row[0], uuid=row[1])]
    return Gpus(tuple(Gpu(row[2], _bytes(row[3])) for row in chosen), rows[0][4], problem)


def torch_build() -> str:
    """cpu, cu126 or cuda: what `requirements/install.sh` would install here."""
    return _script("build") or "cpu"


def flash_attention_archs() -> str:
    """What flash-attn would be compiled for: `80;90`. Empty without GPUs."""
    return _script("archs")


def _script(what: str) -> str:
    script = [str(ROOT / "requirements" / "gpus.sh"), what]
    return subprocess.run(script, check=False, capture_output=True, text=True).stdout.strip()


def _has_card(pci: Path) -> bool:
    """A display or compute device of NVIDIA's on the bus, whether or not a driver knows it."""
    for device in pci.glob("*"):
        try:
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
        except OSError:
            continue
        if vendor == _NVIDIA and kind.startswith("0x03"):
            return True
    return False


def _is_visible(visible: str | None, *, index: str, uuid: str) -> bool:
    if visible is None:
        return True
    names = [name.strip() for name in visible.split(",")]
    return any(name == index or (name.startswith("GPU-") and uuid.startswith(name)) for name in names)


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * MIB if mebibytes.isdecimal() else None


def _gib(size: int | None) -> str:
    return "memory unknown" if size is None else f"{size / GIB:.1f} GiB"
