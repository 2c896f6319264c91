"""Memory that was freed goes back to the system. In a process of its own: what other tests left there counts."""

import subprocess
import sys

MEASURE = """
import torch
import psutil
from app.engine.kv import heap
from app.engine.execution.cleanup import ProcessMemory

def resident():
    return psutil.Process().memory_info().rss

kept, freed = [], []
for _ in range(400):  # holes of 1 MB: what lies between them stays
    freed.append(torch.ones(2**18))
    kept.append(torch.ones(64))
before = resident()
freed.clear()
ProcessMemory().empty()
print(before - resident())
torch.ones(2**22)  # freed: from now on the heap keeps blocks of this size for the next one
before = resident()
buffer = heap.zeros((2**11, 2**10), torch.float32)
print(resident() - before)
del buffer
print(resident() - before)
"""


def test_the_cleanup_gives_holes_back_and_buffers_go_by_themselves() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True, timeout=120)
    holes, taken, gone = (int(line) for line in done.stdout.split())
    assert holes > 0.9 * 400 * 2**20
    assert taken > 0.9 * 2**23
    assert gone < taken - 2**22  # the heap may have grown meanwhile
