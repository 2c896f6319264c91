"""The stack in containers: prepares what compose.yaml needs, starts it, and waits until it is healthy."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stack.config import ROOT, Config
from stack.containers import preparation
from stack.containers.compose import Compose, engine_answers, project_name
from stack.containers.health import wait_until_healthy
from stack.log_format import readable
from stack.protocol import StackError

APP_USER = 10001
"""docker/Dockerfile's USER."""

_PREFIXED = re.compile(r"^(?P<service>\S+?)-\d+\s*\| ?(?P<line>.*)$")


class ContainerStack:
    """A `protocol.Stack` on the Docker engine that the client reaches."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._compose = Compose(config)

    def up(self) -> None:
        if not engine_answers():
            raise StackError("No Docker engine answers. Start one, or use MODE=native.")
        _refuse_unreadable_keys(self._config)
        fresh = not self.processes()
        try:
            self._start(preparation.prepare(self._config, self._compose))
            without = wait_until_healthy(
                project_name(self._config), self._config.startup_deadline + 60, self._compose.essential
            )
            for name, reason in without.items():
                print(f"Serving without {name}: {reason}", flush=True)
            self._docker("image", "prune", "--force")  # images that builds replaced: nearly 2 GB each
        except (StackError, KeyboardInterrupt, SystemExit):
            for service, line in self.log_lines(follow=False, tail=15):
                print(readable(service, line, colour=False), flush=True)
            if fresh:
                self.down()
            raise

    def down(self) -> None:
        if not engine_answers() or not self._remains():
            return
        everything = Compose(self._config)
        # Their networks too, whatever was started.
        everything.boxes = everything.remote = True
        everything.gpus = not everything.vllm
        # The app first: it ends its answers by itself, through nginx, which `down` would stop before it.
        with suppress(StackError):  # what cannot be stopped is removed all the same, or `down` says why not
            everything.run("stop", "app")
        everything.run("down", "--remove-orphans")
        if left := self._remains():
            raise StackError(f"Not removed by `down`: {', '.join(left)}")

    def log_lines(self, follow: bool, tail: int | None = None) -> Iterator[tuple[str, str]]:
        options = [*(["--follow"] if follow else []), *(["--tail", str(tail)] if tail is not None else [])]
        for line in self._compose.lines("logs", "--no-color", *options):
            if found := _PREFIXED.match(line):
                yield found["service"], found["line"]

    def processes(self) -> list[str]:
        return self._docker("ps", "--format", "{{.Names}} ({{.Status}})")

    def services(self) -> dict[str, str]:
        addresses = {
            "model": self._config.address,
            "Prometheus": f"http://127.0.0.1:{self._config.prometheus_port}",
            "Grafana": f"http://127.0.0.1:{self._config.grafana_port}",
        }
        running = " ".join(name for name in self.processes() if "Restarting" not in name)
        return {
            name: address for name, address in addresses.items() if name == "model" or f"-{name.lower()}-" in running
        }

    def _start(self, services: list[str]) -> None:
        """All at once; where that fails, what the model needs, and then each of the rest that can be had."""
        up = ("up", "--detach", "--remove-orphans")
        essential = self._compose.essential
        try:
            self._compose.run(*up, *services)
        except StackError:
            print("Trying again, with what the model needs first", flush=True)
        else:
            return
        self._compose.run(*up, "--no-deps", *(name for name in services if name in essential))
        for name in services:
            if name not in essential and self._compose.ask(*up, "--no-deps", name).returncode != 0:
                print(f"{name} did not start; see the messages above", flush=True)

    def _remains(self) -> list[str]:
        """Everything of the project but its volumes and images, running or not."""
        return [
            *self._docker("ps", "--all", "--format", "{{.Names}}"),
            *self._docker("network", "ls", "--format", "{{.Name}}"),
        ]

    def _docker(self, *arguments: str) -> list[str]:
        if shutil.which("docker") is None:
            return []
        mine = f"label=com.docker.compose.project={project_name(self._config)}"
        done = subprocess.run(["docker", *arguments, "--filter", mine], check=False, capture_output=True, text=True)
        return done.stdout.splitlines() if done.returncode == 0 else []


def _refuse_unreadable_keys(config: Config) -> None:
    """Better said here than by an app that ends again and again."""
    keys = config.api_keys_file
    if keys is None:
        return
    if not keys.is_file():
        raise StackError(f"API_KEYS_FILE={keys}: this file does not exist.")
    if any(private.is_relative_to(keys.parent) for private in (ROOT, Path.home())):
        raise StackError(
            f"API_KEYS_FILE={keys}: put it into a folder of its own. The app's container sees the folder."
        )
    for path, needed in ((keys, stat.S_IROTH), (keys.parent, stat.S_IXOTH)):
        about = path.stat()
        if about.st_uid != APP_USER and not about.st_mode & needed:
            raise StackError(
                f"API_KEYS_FILE={keys}: the app's user in its container must read {path}: "
                f"chown {APP_USER} {path}, or, if it holds hashes alone, chmod o+rX {path}"
            )
