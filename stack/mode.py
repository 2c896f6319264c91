"""Containers or plain processes: what MODE says, else what this machine has. Three things can keep Docker away."""

from __future__ import annotations

import enum
import platform
import shutil
import subprocess
from dataclasses import dataclass

from stack.config import Config

PATIENCE = 10  # seconds for an engine that may be far away, or hang


class Docker(enum.Enum):
    ANSWERS = "Docker answers"
    ABSENT = "There is no Docker client"
    FORBIDDEN = "Docker is installed, but this user may not use it"
    SILENT = "Docker is installed, but its engine does not answer"


REMEDIES = {
    Docker.ABSENT: "Install Docker (https://docs.docker.com/engine/install/)",
    Docker.FORBIDDEN: "Run `sudo usermod -aG docker $USER` and log in again",
    Docker.SILENT: "Start it (`sudo systemctl start docker`, or Docker Desktop)",
}


@dataclass(frozen=True)
class ModeChoice:
    """`problem` and `remedy` say why this mode cannot start; `note` what the operator may have meant instead."""

    mode: str  # docker or native
    why: str
    problem: str = ""
    remedy: str = ""
    note: str = ""


def ask_docker() -> Docker:
    """Whether there is a client, and an engine that it reaches as this user."""
    if shutil.which("docker") is None:
        return Docker.ABSENT
    ask = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        done = subprocess.run(ask, check=False, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return Docker.SILENT
    if done.returncode == 0:
        return Docker.ANSWERS
    return Docker.FORBIDDEN if "permission denied" in done.stderr.lower() else Docker.SILENT


def choose(config: Config) -> ModeChoice:
    """Never a silent second best: a user outside the group docker is told so, and not served without Docker."""
    if config.mode == "native":
        if platform.system() == "Linux":
            return ModeChoice("native", "MODE=native")
        return ModeChoice(
            "native", "MODE=native", "Plain processes need Linux", "Use Docker instead: make up MODE=docker"
        )
    docker = ask_docker()
    why = "MODE=docker" if config.mode == "docker" else docker.value
    if docker is Docker.ANSWERS:
        return ModeChoice("docker", why)
    if config.mode == "docker" or docker is Docker.FORBIDDEN or platform.system() != "Linux":
        other = ", or start plain processes instead: make up MODE=native" if platform.system() == "Linux" else ""
        return ModeChoice("docker", why, docker.value, f"{REMEDIES[docker]}{other}")
    note = f"To use containers: {REMEDIES[docker]}" if docker is Docker.SILENT else ""
    return ModeChoice("native", why, note=note)
