"""Peak memory against the plan, and answers after a forced out-of-memory."""

from collections.abc import Iterator

import torch

from bench.gpu_check.bench import Bench
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row


def memory(bench: Bench) -> Iterator[Row]:
    if not bench.gpus or bench.engine_config is None:
        yield Row("peaks and out-of-memory", "left out", note="without a GPU nothing is measured")
        return
    for share in bench.engine_config.plan.shares:
        peak = torch.cuda.max_memory_allocated(share.gpu.index)
        allowed = share.gpu.free
        yield Row(f"peak on GPU {share.gpu.index}", peak / 2**30, "GiB", ok=peak <= allowed, note="since the load")
    yield from _forced(bench)


def _forced(bench: Bench) -> Iterator[Row]:
    """Fill nearly all memory, send requests that need more, free it, and ask again."""
    driven = Driven(bench)
    prompt = driven.prompt(512)
    driven.submit("before", prompt, 8)
    driven.run()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(0)
    hog = torch.empty(max(0, free - 600 * 2**20), dtype=torch.uint8, device=bench.device)
    for number in range(16):
        driven.submit(f"crowd {number}", driven.prompt(4096), 8)
    driven.run()
    failed = sum(code == "out_of_memory" for code in driven.errors.values())
    others = sum(code != "out_of_memory" for code in driven.errors.values())
    yield Row("requests that ended with out of memory", f"{failed} of 16", ok=failed > 0 and others == 0)
    del hog
    torch.cuda.empty_cache()
    driven.submit("after", prompt, 8)
    driven.run()
    same = driven.tokens["after"] == driven.tokens["before"]
    yield Row("the same answer afterwards", "yes" if same else "no", ok=same)
