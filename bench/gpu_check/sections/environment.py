"""The card, the versions, and the two ceilings that the other figures are compared with."""

import platform
from collections.abc import Iterator
from importlib.metadata import version

import torch

from bench.gpu_check.bench import Bench
from bench.gpu_check.report import Row


def environment(bench: Bench) -> Iterator[Row]:
    for gpu in bench.gpus:
        major, minor = torch.cuda.get_device_capability(gpu.index)
        yield Row(f"GPU {gpu.index}", gpu.name, note=f"sm_{major}{minor}, {gpu.total / 2**30:.1f} GiB")
    if not bench.gpus:
        yield Row("GPU", "none", note=bench.note)
    yield Row("torch", version("torch"), note=f"CUDA {torch.version.cuda}, Python {platform.python_version()}")
    for package in ("transformers", "accelerate"):
        yield Row(package, version(package))
    copy = _copy_bytes(bench)
    bench.ceiling_bytes = copy
    yield Row("copy bandwidth, read and write", copy / 1e12, "TB/s")
    bench.ceiling_flops = _product_flops(bench)
    yield Row("matrix product, bfloat16", bench.ceiling_flops / 1e12, "TFLOP/s")


def _copy_bytes(bench: Bench) -> float:
    source = torch.ones((2**31 if bench.gpus else 2**24) // 2, dtype=torch.bfloat16, device=bench.device)
    target = torch.empty_like(source)
    milliseconds = bench.median_ms(lambda: target.copy_(source))
    return 2 * source.numel() * 2 / milliseconds * 1000


def _product_flops(bench: Bench) -> float:
    n = 8192 if bench.gpus else 256
    a, b = (torch.randn(n, n, device=bench.device).to(torch.bfloat16) for _ in range(2))
    return 2 * n**3 / bench.median_ms(lambda: a @ b) * 1000
