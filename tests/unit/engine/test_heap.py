"""Memory that was freed goes back to the system. In a process of its own: what other tests left there counts."""

import subprocess
import sys

MEASURE = """
import torch
import psutil
from app.engine import heap
from app.engine.cleanup import ProcessMemory

heap.settle()
kept, freed = [], []
for _ in range(400):  # as buffers of the KV cache grow: each is replaced, and what lies between them stays
    freed.append(torch.ones(2**18))
    kept.append(torch.ones(64))
before = psutil.Process().memory_info().rss
freed.clear()
ProcessMemory().empty()
print(before - psutil.Process().memory_info().rss)
large = torch.ones(2**21)
before = psutil.Process().memory_info().rss
del large
print(before - psutil.Process().memory_info().rss)
"""


def test_the_cleanup_gives_holes_back_and_large_blocks_go_by_themselves() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True, timeout=120)
    holes, large = (int(line) for line in done.stdout.split())
    assert holes > 0.9 * 400 * 2**20
    assert large > 0.9 * 2**23
