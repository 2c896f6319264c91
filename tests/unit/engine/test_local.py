"""What the inference thread does before it imports torch."""

import os
import subprocess
import sys

WHEN_TORCH_IS_IMPORTED = """
import os, sys

class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print(os.environ.get("CUDA_DEVICE_ORDER"))
            sys.stdout.flush()
            os._exit(0)

sys.meta_path.insert(0, Watch())
from app.engine.local import LocalEngine
from app.contract.telemetry import Observers
from types import SimpleNamespace
LocalEngine(SimpleNamespace(folder=None, model=None), Observers())._run_thread()
"""


def test_the_order_of_the_gpus_is_set_before_torch_is_imported() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_DEVICE_ORDER"}
    command = [sys.executable, "-c", WHEN_TORCH_IS_IMPORTED]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout == "PCI_BUS_ID\n", done.stderr
