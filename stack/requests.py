"""`make requests`: the app's own commands for its log, in the virtual environment, or else in the app's image."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from stack.config import ROOT, Config
from stack.containers.compose import Compose
from stack.containers.stack import ContainerStack
from stack.install.venvs import PYTHON, is_filled
from stack.protocol import StackError


def requests(config: Config, arguments: Sequence[str]) -> None:
    """Raises StackError when the command fails, which then has said why."""
    containers = ContainerStack(config)
    if containers.processes():
        _of_containers(config, containers, arguments)
        return
    environment = {**os.environ, "STATE_DIR": str(config.state_dir)}
    if not is_filled():
        raise StackError("There is nothing to read the log with yet: `make up` installs it.")
    done = subprocess.run([PYTHON, *_command(arguments)], check=False, cwd=ROOT, env=environment)
    if done.returncode != 0:
        raise StackError("`requests` failed; see its message above.")


def _of_containers(config: Config, containers: ContainerStack, arguments: Sequence[str]) -> None:
    """The log is with the container engine: it is read here, and piped."""
    compose = Compose(config)
    inside = compose.command("run", "--rm", "--no-deps", "-T", "app", "python")
    python = [str(PYTHON)] if is_filled() else inside
    reading = subprocess.Popen(
        [*python, *_command(arguments), "--file", "-"],
        cwd=ROOT,
        env=compose.variables,
        stdin=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with reading, suppress(BrokenPipeError):  # it ends before its input when it has what it wants
        for service, line in containers.log_lines(follow="--follow" in arguments):
            if service == "app" and reading.stdin is not None:
                reading.stdin.write(line + "\n")
                reading.stdin.flush()
    if reading.returncode != 0:
        raise StackError("`requests` failed; see its message above.")


def _command(arguments: Sequence[str]) -> list[str]:
    return ["-m", "app", "logs", *arguments]
