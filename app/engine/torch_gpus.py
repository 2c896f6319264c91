"""`python -m app.engine.torch_gpus`: prints the GPUs that torch can use, as one line of JSON. It is a program of its
own because it starts CUDA: the memory that CUDA takes, and a crash, end with this process.
"""

import json
import sys
from typing import Any


def report() -> dict[str, Any]:
    """torch's version, its CUDA, its GPUs, and the error where it has none."""
    answer: dict[str, Any] = {"torch": None, "cuda": None, "gpus": [], "error": None}
    try:
        import torch  # noqa: PLC0415  # a failed import is reported
    except (ImportError, OSError) as error:
        return answer | {"error": f"PyTorch cannot be imported: {error}"}
    answer |= {"torch": torch.__version__, "cuda": torch.version.cuda}
    if torch.version.cuda is None:
        return answer | {"error": f"PyTorch {torch.__version__} is built without CUDA"}
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch has none there
        answer["gpus"] = [_device(torch, index) for index in range(torch.cuda.device_count())]
    except (RuntimeError, AssertionError) as error:  # AssertionError: how torch refuses a build without CUDA
        answer["error"] = _first_line(error)
    return answer


def _device(torch: Any, index: int) -> dict[str, Any]:
    """One GPU. It must compute: torch also lists cards that it has no kernels for, and cards that are locked."""
    about = torch.cuda.get_device_properties(index)
    device = {
        "index": index,
        "name": about.name,
        "total": about.total_memory,
        "free": 0,
        "capability": [about.major, about.minor],
        "uuid": str(about.uuid),
        "error": None,
    }
    try:
        device["free"] = torch.cuda.mem_get_info(index)[0]
        square = torch.ones(64, 64, device=f"cuda:{index}")
        if float((square @ square).sum()) != 64.0**3:
            device["error"] = "it computes wrong numbers"
    except RuntimeError as error:
        device["error"] = _first_line(error)
    return device


def _first_line(error: BaseException) -> str:
    """The other lines are advice on debugging kernels."""
    return str(error).strip().split("\n")[0] or type(error).__name__


if __name__ == "__main__":
    sys.stdout.write(json.dumps(report()) + "\n")
