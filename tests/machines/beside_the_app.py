"""Runs what `make up` starts beside the app, on a machine where nothing of ours is installed, and prints as JSON what
Prometheus says of its targets when it has asked each. Run there: `python3 -m tests.machines.beside_the_app`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

from stack.config import load_config
from stack.native.programs import EXPORTER_PATIENCE, lay_out

SECONDS = 90.0


def main() -> None:
    config = load_config()
    folder = config.state_dir / "native"
    for each in (folder, config.state_dir / "prometheus-data"):
        each.mkdir(parents=True, exist_ok=True)
    _, programs = lay_out(config, folder)
    environment = {**os.environ, **EXPORTER_PATIENCE}
    started = [
        subprocess.Popen(each.command, cwd=each.directory, env=environment, stdout=sys.stderr)
        for each in programs
        if each.name != "app"
    ]
    try:
        health = _health(f"http://127.0.0.1:{config.prometheus_port}/api/v1/targets")
    finally:
        for process in started:
            process.terminate()
            process.wait()
    sys.stdout.write(json.dumps(health) + "\n")


def _health(address: str) -> dict[str, str]:
    """Job → up or down, when none is unknown any more."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urlopen(address, timeout=5) as answer:  # noqa: S310  # an address of our own
                targets = json.load(answer)["data"]["activeTargets"]
        except (URLError, ConnectionError):
            targets = []
        health = {str(each["labels"]["job"]): str(each["health"]) for each in targets}
        if (health and "unknown" not in health.values()) or time.monotonic() > deadline:
            return health
        time.sleep(0.2)


if __name__ == "__main__":
    main()
