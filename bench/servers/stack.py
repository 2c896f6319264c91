"""Starts the whole stack as `make up` does, on free ports and with a state folder of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from bench.errors import Failed
from bench.load.outcome import Outcome
from bench.model import SETTINGS
from stack.config import ROOT, Config, load_config
from stack.host.ports import free_ports
from stack.native import processes
from stack.native.stack import NativeStack
from stack.smoke import await_true


class RunningStack:
    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def base(self) -> str:
        """nginx' address."""
        return self._config.address

    @property
    def prometheus(self) -> str:
        return f"http://127.0.0.1:{self._config.prometheus_port}"

    def also_scrape(self, job: str, address: str, instance: str) -> None:
        """Give Prometheus another target of a job; it finds it within seconds."""
        file = self._config.state_dir / "native/prometheus/targets" / f"{job}.json"
        targets = json.loads(file.read_text(encoding="utf-8"))
        targets.append({"targets": [address], "labels": {"instance": instance}})
        file.write_text(json.dumps(targets), encoding="utf-8")

    def app_processes(self) -> list[psutil.Process]:
        """gunicorn's master and its worker."""
        found = processes.of_stack(self._config.state_dir)
        return [psutil.Process(each.pid) for each in found if "gunicorn" in each.command]

    def said(self, field: str) -> float:
        """The last value of a field in the app's log. Raises Failed."""
        lines = [line for service, line in NativeStack(self._config).log_lines(follow=False) if service == "app"]
        values = [json.loads(line)[field] for line in lines if f'"{field}"' in line]
        if not values:
            raise Failed(f"the app's log has no {field}")
        return float(values[-1])

    def counted(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """The outcomes with their numbers of generated tokens, from the app's log."""
        wanted = {outcome.request_id for outcome in outcomes if outcome.error is None}
        tokens = await_true(lambda: self._all_logged(wanted), "the log lines of the requests")
        return [o if o.error else o.counted(tokens[o.request_id]) for o in outcomes]

    def _all_logged(self, wanted: set[str | None]) -> dict[str | None, int] | None:
        tokens: dict[str | None, int] = {}
        for _, line in NativeStack(self._config).log_lines(follow=False):
            if '"completion_tokens"' in line:
                fields = json.loads(line)
                tokens[fields["request_id"]] = fields["completion_tokens"]
        return tokens if wanted <= tokens.keys() else None


@contextmanager
def running_stack(settings: Mapping[str, str] | None = None) -> Iterator[RunningStack]:
    """A stack with the embedded model, until the context ends. Raises Failed with the output of `make up`."""
    http, prometheus, grafana = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        environment = {
            **os.environ,
            **SETTINGS,
            "MODE": "native",
            "STATE_DIR": folder,
            "HTTP_PORT": str(http),
            "PROMETHEUS_PORT": str(prometheus),
            "GRAFANA_PORT": str(grafana),
            "DRAIN_SECONDS": "2",
            **(settings or {}),
        }
        try:
            _stack("up", environment)
            yield RunningStack(load_config(environment, Path("no.env")))
        finally:
            _stack("down", environment)


def _stack(command: str, environment: dict[str, str]) -> None:
    """`python -m stack COMMAND`, as the Makefile runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "stack", command],
        check=False,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0:
        raise Failed(done.stdout)
