"""A lost device is told from a full one. In processes of their own: a CUDA context does not survive the test."""

import subprocess
import sys
from collections.abc import Iterator

from bench.gpu_check.bench import Bench
from bench.gpu_check.report import Row
from stack.config import ROOT

_LOST = """
import torch
from app.engine.execution.device_faults import lost_device
device = torch.device("cuda", 0)
assert lost_device([device]) is None, "a sound device was called lost"
try:
    torch.zeros(4, device=device)[torch.tensor([9], device=device)]
    torch.cuda.synchronize()
except RuntimeError as error:
    print("raised", type(error).__name__)
print("found", lost_device([device]))
"""

_FULL = """
import torch
from app.engine.execution.device_faults import lost_device, ran_out_of_memory
device = torch.device("cuda", 0)
hog = []
size = 2**30
while size > 2**9:
    try:
        hog.append(torch.empty(size, dtype=torch.uint8, device=device))
    except torch.OutOfMemoryError:
        size //= 2
try:
    torch.ones(64, 64, device=device) @ torch.ones(64, 64, device=device)
    print("raised nothing")
except RuntimeError as error:
    print("raised", type(error).__name__, "taken as out of memory:", ran_out_of_memory(error))
print("found", lost_device([device]))
"""


def faults(bench: Bench) -> Iterator[Row]:
    if not bench.gpus:
        yield Row("a lost device, a full device", "left out", note="without a GPU there is none to lose")
        return
    text = _run(_LOST)
    yield Row(
        "after a failed assert the device", "is lost", ok="found cuda:0" in text, note=text.replace("\n", "; ")[:110]
    )
    text = _run(_FULL)
    ok = "found None" in text and ("memory: True" in text or "raised nothing" in text)
    yield Row("without memory the device", "is not", ok=ok, note=text.replace("\n", "; ")[:110])


def _run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip() or done.stderr.strip()[-300:]
