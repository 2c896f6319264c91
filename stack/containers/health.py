"""Waits until a project's containers are healthy, and gives up on one that keeps exiting.

`compose up --wait` cannot be used: it waits for a container that is started again and again until the time-out,
which is half an hour here because a large model may load for that long. What only looks at the model (Prometheus,
Grafana, an exporter) never fails a start: the model serves without it.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from stack.protocol import StackError

_RESTARTS = 2  # one may happen by bad luck; the second within one start is a pattern
_SETTLED = 3  # seconds: a container without a healthcheck that runs so long has not ended at once
_OVER = ("created", "exited", "dead")  # it never started, as where its port is taken, or nobody starts it again
_SIDECAR_PATIENCE = 60  # seconds after the model answers: Grafana's first start takes half of it


@dataclass
class _Look:
    """At all containers at once; each is described in a few words."""

    waiting: list[str] = field(default_factory=list)  # essential, and not healthy yet
    late: dict[str, str] = field(default_factory=dict)  # not essential, and not healthy yet
    lost: dict[str, str] = field(default_factory=dict)  # not essential, and will not be


def wait_until_healthy(project: str, patience: float, essential: Collection[str]) -> dict[str, str]:
    """Return when every essential container is healthy, and the others are or will not be: name → why not.

    Says what is waited for. Raises StackError.
    """
    deadline = time.monotonic() + patience
    before = {container["Id"]: container["RestartCount"] for container in _containers(project)}
    told: list[str] = []
    sidecars_until = None
    while True:
        look = _look(project, before, essential)
        if not look.waiting:
            sidecars_until = sidecars_until or time.monotonic() + _SIDECAR_PATIENCE
            if not look.late or time.monotonic() > sidecars_until:
                return {**look.lost, **{name: f"still {state}" for name, state in look.late.items()}}
        elif time.monotonic() > deadline:
            raise StackError(f"Not healthy after {patience:g} s: {', '.join(look.waiting)}.")
        waiting = [*look.waiting, *(f"{name} ({state})" for name, state in look.late.items())]
        if waiting != told:
            told = waiting
            print(f"Waiting for {', '.join(waiting)}", flush=True)
        time.sleep(0.5)


def _look(project: str, before: Mapping[str, int], essential: Collection[str]) -> _Look:
    """Raises StackError when an essential container keeps ending."""
    found = _Look()
    for container in _containers(project):
        name, state = _name(container), _condition(container["State"])
        ends = container["RestartCount"] - before.get(container["Id"], 0) >= _RESTARTS or state in _OVER
        if name in essential and ends:
            raise StackError(f"{name} keeps exiting; the end of its log is above.")
        if name in essential and state != "healthy":
            found.waiting.append(f"{name} ({state})")
        elif ends:
            found.lost[name] = "it did not start" if state == "created" else "it keeps exiting; `make logs` shows why"
        elif state != "healthy":
            found.late[name] = state
    return found


def _containers(project: str) -> list[dict[str, Any]]:
    mine = ["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    names = subprocess.run(mine, check=False, capture_output=True, text=True).stdout.split()
    if not names:
        raise StackError("This stack's containers have been removed.")
    inspected = subprocess.run(["docker", "inspect", *names], check=False, capture_output=True, text=True)
    return list(json.loads(inspected.stdout or "[]"))


def _name(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"]["com.docker.compose.service"])


def _condition(state: dict[str, Any]) -> str:
    """One word: healthy, starting, unhealthy, or the engine's own for a container that does not run."""
    if state["Status"] != "running":
        return str(state["Status"])
    if "Health" in state:
        return str(state["Health"]["Status"])
    return "healthy" if _age(state) >= _SETTLED else "starting"


def _age(state: dict[str, Any]) -> float:
    started = datetime.fromisoformat(state["StartedAt"][:19]).replace(tzinfo=timezone.utc)
    return (datetime.now(timezone.utc) - started).total_seconds()
