"""`transformers serve --continuous-batching`, in a virtual environment of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from bench.errors import Failed
from bench.model import FOLDER
from bench.servers.process import server
from bench.workers.pipe import LOGS
from stack.config import ROOT
from stack.host.ports import free_ports

HOME = ROOT / "var" / "bench" / "transformers-serve"
MODEL = str(FOLDER)
"""The model's name in requests."""


def ensure_installed() -> None:
    """Install the same versions of transformers and torch as ours. Takes minutes the first time. Raises Failed."""
    wanted = [f"transformers[serving]=={version('transformers')}", f"torch=={version('torch').partition('+')[0]}"]
    stamp = HOME / ".installed"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == " ".join(wanted):
        return
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / "transformers-serve-install.log").open("w", encoding="utf-8") as log:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(HOME)],
            [str(HOME / "bin" / "python"), "-m", "pip", "install", *wanted],
        ):
            if subprocess.run(command, check=False, stdout=log, stderr=subprocess.STDOUT).returncode != 0:
                raise Failed(f"it could not be installed; see {log.name}")
    stamp.write_text(" ".join(wanted), encoding="utf-8")


@contextmanager
def running_transformers_serve() -> Iterator[str]:
    """Its address. Raises Failed."""
    (port,) = free_ports(1)
    command = [str(HOME / "bin" / "transformers"), "serve", MODEL, "--device", "cpu", "--continuous-batching"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    base = f"http://127.0.0.1:{port}"
    with server(command, f"{base}/health", name="transformers-serve", environment=environment):
        yield base
