"""The stack in containers: compose.yaml, with what it needs brought in before, and watched until it is healthy."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from functools import cached_property

from docker.stack import images
from docker.stack.base import StackError
from docker.stack.compose import compose_files, compose_program, engine_answers, environment, project_name
from docker.stack.config import ROOT, Config
from docker.stack.health import wait_until_healthy

APP_USER = 10001
"""docker/Dockerfile's USER."""

_PREFIXED = re.compile(r"^(?P<service>\S+?)-\d+\s*\| ?(?P<line>.*)$")


class ContainerStack:
    """A `base.Stack` on the Docker engine that the client reaches."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._environment = environment(config)

    def up(self) -> None:
        if not engine_answers():
            raise StackError("No Docker engine answers. Start one, or use MODE=native.")
        _refuse_what_containers_cannot(self._config)
        fresh = not self.processes()
        self._environment |= images.build_arguments()
        services = self._provide()
        try:
            self._show("build", *services)
            self._show("up", "--detach", "--remove-orphans", *services)
            wait_until_healthy(project_name(self._config), self._config.startup_deadline + 60)
            self._docker("image", "prune", "--force")  # images that builds replaced: nearly 2 GB each
        except (StackError, KeyboardInterrupt, SystemExit):
            for service, line in self.log_lines(follow=False, tail=15):
                print(f"{service}: {line}", flush=True)
            if fresh:
                self.down()
            raise

    def down(self) -> None:
        if not engine_answers() or not self._remains():
            return
        self._show("down", "--remove-orphans")
        if left := self._remains():
            raise StackError(f"Still there after `down`: {', '.join(left)}")

    def log_lines(self, follow: bool, tail: int | None = None) -> Iterator[tuple[str, str]]:
        options = [*(["--follow"] if follow else []), *(["--tail", str(tail)] if tail is not None else [])]
        command = [*self._compose, "logs", "--no-color", *options]
        with subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True) as logs:
            try:
                for raw in logs.stdout or ():
                    if found := _PREFIXED.match(raw.rstrip("\n")):
                        yield found["service"], found["line"]
            finally:
                logs.terminate()

    def terminate_app(self) -> None:
        # From inside, as the kernel or an orchestrator does it: after `docker kill` the engine would not start the
        # app again. Process 1 is the engine's init, which hands the signal on to gunicorn.
        self._show("exec", "-T", "app", "sh", "-c", "kill -TERM 1")

    def processes(self) -> list[str]:
        return self._docker("ps", "--format", "{{.Names}} ({{.Status}})")

    def services(self) -> dict[str, str]:
        addresses = {
            "model": self._config.address,
            "Prometheus": f"http://127.0.0.1:{self._config.prometheus_port}",
            "Grafana": f"http://127.0.0.1:{self._config.grafana_port}",
        }
        if not any("-grafana-" in name for name in self.processes()):
            del addresses["Grafana"]
        return addresses

    def _provide(self) -> list[str]:
        """The services to start: those whose images can be had."""
        services = json.loads(self._read("config", "--format", "json"))["services"]
        wanted = images.wanted(services)
        missing = images.provide(wanted)
        if bases := missing - set(services):
            raise StackError(f"No registry answers, and there is no stand-in for: {', '.join(sorted(bases))}")
        for name in sorted(missing):
            print(f"Starting without {name}: no registry answers for {wanted[name]}, and it has no stand-in.")
        if stand_ins := images.stand_ins(wanted):
            print(f"Stand-ins from Debian packages serve as: {', '.join(wanted[name] for name in sorted(stand_ins))}")
        return [name for name in services if name not in missing]

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

    @cached_property
    def _compose(self) -> list[str]:
        files = [part for file in compose_files() for part in ("--file", str(file))]
        return [*compose_program(self._config), "--project-directory", str(ROOT), *files]

    def _show(self, *arguments: str) -> None:
        if subprocess.run([*self._compose, *arguments], check=False, env=self._environment).returncode != 0:
            raise StackError(f"`compose {arguments[0]}` failed; its messages are above.")

    def _read(self, *arguments: str) -> str:
        command = [*self._compose, *arguments]
        done = subprocess.run(command, check=False, env=self._environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise StackError(f"`compose {arguments[0]}` failed: {done.stderr.strip()}")
        return done.stdout


def _refuse_what_containers_cannot(config: Config) -> None:
    """Better said here than by an app that ends again and again."""
    if "/" in config.model:
        raise StackError(f"MODEL={config.model}: containers serve the catalogue's models; use MODE=native.")
    keys = config.api_keys_file
    if keys is None:
        return
    if not keys.is_file():
        raise StackError(f"API_KEYS_FILE={keys}: there is no such file.")
    about = keys.stat()
    if about.st_uid != APP_USER and not about.st_mode & stat.S_IROTH:
        raise StackError(
            f"API_KEYS_FILE={keys}: the app's user in its container must read it: chown {APP_USER} {keys}"
        )
