"""`make keys`: the app's own commands for API keys, in the virtual environment, or else in the app's image."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from stack.config import ROOT, Config
from stack.containers.compose import Compose
from stack.install.venvs import PYTHON, is_filled
from stack.protocol import StackError

_INSIDE = Path("/keys")


def keys(config: Config, arguments: Sequence[str]) -> None:
    """Raises StackError when API_KEYS_FILE is not set, or the command fails, which then has said why."""
    file = config.api_keys_file
    if file is None and {"-h", "--help"} & set(arguments):
        file = config.state_dir / "keys"  # it says what there is, and touches none
    if file is None:
        raise StackError("Set API_KEYS_FILE to the file that is to hold the keys.")
    if not file.parent.is_dir():
        raise StackError(f"API_KEYS_FILE={file}: make its folder first: mkdir -p {file.parent}")
    if is_filled():
        done = subprocess.run([PYTHON, *_command(arguments, file)], check=False, cwd=ROOT)
        if done.returncode != 0:
            raise StackError("`keys` failed; see its message above.")
        return
    compose = Compose(config)
    compose.keys = False  # which mounts the folder for reading alone
    owner = file.parent.stat()
    options = ["--rm", "--no-deps", "-T", "--user", f"{owner.st_uid}:{owner.st_gid}"]
    mount = f"{file.parent}:{_INSIDE}"
    compose.run("run", *options, "--volume", mount, "app", "python", *_command(arguments, _INSIDE / file.name))


def _command(arguments: Sequence[str], file: Path) -> list[str]:
    return ["-m", "app", "keys", *arguments, "--file", str(file)]
