"""The packages and the model: installed and fetched when they are missing, quick to check when they are not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Literal

from stack.config import ROOT, Config, install_settings
from stack.install.venvs import PYTHON, ensure_venv
from stack.protocol import StackError

EMBEDDED = "smollm2-135m"


def ensure_dependencies(which: Literal["runtime", "dev"]) -> None:
    """A virtual environment that holds one of the locks of requirements/. Raises StackError."""
    ensure_venv()
    _run([str(ROOT / "requirements" / "install.sh"), str(PYTHON), which], {**os.environ, **install_settings()})


def ensure_node_client() -> None:
    """The packages of the tests' Node client. Raises StackError."""
    _run([str(ROOT / "requirements" / "node.sh"), str(PYTHON), str(ROOT / "tests" / "e2e" / "node")])


def ensure_model(config: Config) -> None:
    """Put the model that the app will serve into MODELS_DIR. Raises StackError, before any download where none can be
    served. With a remote engine it serves none itself."""
    if config.remote:
        return
    name = _chosen()
    if not Path(config.model).is_dir():
        fetch_model(config, name)


def fetch_model(config: Config, name: str) -> None:
    """Put a model of the catalogue into MODELS_DIR; quick when it is there. Raises StackError."""
    _run([str(PYTHON), "-m", "app", "models", "fetch", name, "--dir", str(config.models_dir)])


def _chosen() -> str:
    """What MODEL means here: asked of the app, which knows the GPUs and the plan, and says why on stderr."""
    command = [str(PYTHON), "-m", "app", "choose"]
    done = subprocess.run(command, check=False, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise StackError("No model can be served; see the reason above.")
    return done.stdout.strip()


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment)
    if done.returncode != 0:
        raise StackError(f"`{' '.join(command)}` failed with code {done.returncode}; see its messages above.")
