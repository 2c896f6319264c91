"""Waits until a project's containers are healthy, and gives up on one that keeps ending.

`compose up --wait` cannot be used: it waits for a container that is started again and again until the time-out,
which is half an hour here because a large model may load for that long.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from docker.stack.base import StackError

_RESTARTS = 2  # one may happen by bad luck; the second within one start is a pattern


def wait_until_healthy(project: str, patience: float) -> None:
    """Return when every container runs and is healthy, saying what is waited for. Raises StackError."""
    deadline = time.monotonic() + patience
    before = {container["Id"]: container["RestartCount"] for container in _containers(project)}
    told = ""
    while True:
        waiting = []
        for container in _containers(project):
            restarts = container["RestartCount"] - before.get(container["Id"], 0)
            if restarts >= _RESTARTS or _ended_for_good(container):
                raise StackError(f"{_name(container)} keeps ending; its last words are above.")
            if (condition := _condition(container["State"])) not in ("healthy", "done"):
                waiting.append(f"{_name(container)} ({condition})")
        if not waiting:
            return
        if time.monotonic() > deadline:
            raise StackError(f"After {patience:g} s still not healthy: {', '.join(waiting)}.")
        if told != (told := ", ".join(waiting)):
            print(f"Waiting for {told}", flush=True)
        time.sleep(0.5)


def _containers(project: str) -> list[dict[str, Any]]:
    mine = ["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    names = subprocess.run(mine, check=False, capture_output=True, text=True).stdout.split()
    if not names:
        raise StackError("Docker has no container of this stack any more.")
    inspected = subprocess.run(["docker", "inspect", *names], check=False, capture_output=True, text=True)
    return list(json.loads(inspected.stdout or "[]"))


def _name(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def _ended_for_good(container: dict[str, Any]) -> bool:
    """It ran once, as the fetch of a model does, and failed."""
    once = container["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
    return once and container["State"]["Status"] == "exited" and container["State"]["ExitCode"] != 0


def _condition(state: dict[str, Any]) -> str:
    """One word: healthy, starting, unhealthy, done, or the engine's own for a container that does not run."""
    if state["Status"] == "running":
        return str(state.get("Health", {}).get("Status", "healthy"))  # without a healthcheck, running is all we know
    return "done" if state["Status"] == "exited" and state["ExitCode"] == 0 else str(state["Status"])
