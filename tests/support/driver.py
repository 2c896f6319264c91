"""An NVIDIA driver's answers for a process that is started, on a machine that has none."""

from collections.abc import Sequence
from pathlib import Path

from app.models.units import GIB

_SITE = """
import pynvml
from types import SimpleNamespace

SIZES, VERSION, ERROR = {sizes!r}, {version!r}, {error!r}

def init():
    if ERROR is not None:
        raise pynvml.NVMLError(ERROR)

pynvml.nvmlInit = init
pynvml.nvmlShutdown = lambda: None
pynvml.nvmlSystemGetDriverVersion = lambda: VERSION
pynvml.nvmlDeviceGetCount = lambda: len(SIZES)
pynvml.nvmlDeviceGetHandleByIndex = lambda index: index
pynvml.nvmlDeviceGetUUID = lambda handle: f"GPU-{{handle}}000"
pynvml.nvmlDeviceGetName = lambda handle: f"Stand-in {{handle}}"
pynvml.nvmlDeviceGetCudaComputeCapability = lambda handle: (8, 6)
pynvml.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(total=SIZES[handle], free=SIZES[handle])
"""


def driver_environment(
    folder: Path, gib: Sequence[int] = (), *, version: str = "580.95.05", error: int | None = None
) -> dict[str, str]:
    """What a Python process needs in its environment to see GPUs of these sizes, or this error of NVML.

    Only the driver is made up: torch answers for itself, and where it is built for CPUs it can use none of them.
    """
    text = _SITE.format(sizes=[size * GIB for size in gib], version=version, error=error)
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}
