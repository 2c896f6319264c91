"""A real Prometheus, promtool and nginx exporter for tests, all on loopback."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import requests
import yaml

from tests.support.patience import PATIENCE

MONITORING = Path(__file__).parents[2] / "monitoring"
CONFIG = MONITORING / "prometheus"


def tool(name: str) -> str:
    """The path of a program from Debian's packages. Without it the test is skipped, in CI it fails."""
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is not installed (it is in Debian's packages prometheus and prometheus-nginx-exporter)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """An instant query's samples."""
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=PATIENCE)
        answer.raise_for_status()
        return cast("list[dict[str, Any]]", answer.json()["data"]["result"])

    def targets(self) -> dict[str, str]:
        """Each job's health: up, down or unknown."""
        answer = requests.get(f"{self.url}/api/v1/targets", timeout=PATIENCE).json()
        return {target["labels"]["job"]: target["health"] for target in answer["data"]["activeTargets"]}


@contextmanager
def running_prometheus(folder: Path, targets: Mapping[str, str], interval: str) -> Iterator[Prometheus]:
    """Prometheus with the repository's configuration and rules; `targets` maps a job to its host:port.

    Only the interval differs, so that a test has enough samples after a second or two.
    """
    port = free_port()
    shutil.copytree(CONFIG, folder / "config", ignore=shutil.ignore_patterns("targets"))
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    (folder / "config/prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / "config/targets").mkdir()
    for job, address in {**targets, "prometheus": f"127.0.0.1:{port}"}.items():
        target = {"targets": [address], "labels": {"instance": job}}
        (folder / f"config/targets/{job}.json").write_text(json.dumps([target]))
    command = [tool("prometheus"), f"--config.file={folder}/config/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with running(command, folder / "prometheus.log"):
        wait_for(f"http://127.0.0.1:{port}/-/ready", folder / "prometheus.log")
        yield Prometheus(f"http://127.0.0.1:{port}")


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block; its output goes to `log`."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE)


def wait_for(url: str, log: Path, deadline: float = PATIENCE) -> None:
    """Until `url` answers 200. Fails with the process's own words."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        try:
            if requests.get(url, timeout=1).ok:
                return
        except (requests.ConnectionError, requests.Timeout):
            pass
        time.sleep(0.05)  # another process's start can only be polled
    pytest.fail(f"{url} did not answer:\n{log.read_text()}")
