"""`python -m stack`, as the Makefile runs it."""

import subprocess
import sys
from collections.abc import Mapping

from stack.config import ROOT


def run_stack(*command: str, environment: Mapping[str, str], timeout: float) -> "subprocess.CompletedProcess[str]":
    """What it printed, on either output, is the result's `stdout`."""
    return subprocess.run(
        [sys.executable, "-m", "stack", *command],
        check=False,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
