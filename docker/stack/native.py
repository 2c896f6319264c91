"""The stack as plain processes under supervisor: the app, nginx, nginx's exporter and Prometheus.

Everything lies below STATE_DIR: `native/` holds what is written anew at each start, `logs/` and `prometheus-data/`
stay. Only HTTP_PORT and PROMETHEUS_PORT are fixed; the inner ports are whatever is free on loopback.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from docker.stack import nginx, packages, ports, proc, prometheus, supervisor
from docker.stack.base import StackError
from docker.stack.config import ROOT, Config
from docker.stack.environment import PYTHON, VENV, ensure_dependencies, ensure_model
from docker.stack.fingerprint import fingerprint
from docker.stack.follow import follow_files
from docker.stack.readable import readable
from docker.stack.ready import wait_until_ready
from docker.stack.supervisor import Program, Supervisor

SERVICES = ("app", "nginx", "nginx-exporter", "prometheus")
LAST_LINES = 15  # of the log of a service that ended, shown to the operator


class NativeStack:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = config.state_dir / "native"
        self._logs = config.state_dir / "logs"
        self._fingerprint = self._folder / "fingerprint"
        self._supervisor = Supervisor(self._folder)

    def up(self) -> None:
        running = self._supervisor.alive()
        if not running and proc.of_stack(self._config.state_dir):
            print("Processes of an earlier start are left: stopping them", flush=True)
            self.down()
        if not running:
            self._refuse_taken_ports()
        packages.ensure(packages.RUNTIME)
        ensure_dependencies("runtime")
        ensure_model(self._config)
        if running and not self._is_current():
            print("What runs was started from other settings or other code: starting it anew", flush=True)
            self.down()
            running = False
        watch = _Watch(self._supervisor, self._logs)
        try:
            if not running:
                self._start()
            wait_until_ready(self._config, watch)
        except BaseException:  # also Ctrl-C: half a stack is worse than none
            self.down()
            raise

    def down(self) -> None:
        if self._supervisor.alive():
            pid = self._supervisor.pid()
            self._supervisor.shut_down()
            print(f"Stopping; running answers get up to {self._config.drain_seconds} s", flush=True)
            proc.wait([pid], 2 * self._config.stop_seconds)
        proc.end([process.pid for process in proc.of_stack(self._config.state_dir)], grace=self._config.stop_seconds)
        left = self.processes()
        if left:
            raise StackError("These do not end: " + "; ".join(left))
        self._fingerprint.unlink(missing_ok=True)

    def log_lines(self, follow: bool, tail: int | None = None) -> Iterator[tuple[str, str]]:
        files = {name: self._logs / f"{name}.log" for name in SERVICES}
        if follow:
            yield from follow_files(files, tail)
            return
        for name, path in files.items():
            if path.exists():
                with path.open(encoding="utf-8", errors="replace") as lines:
                    for line in deque(lines, tail):
                        yield name, line.rstrip("\n")

    def terminate_app(self) -> None:
        os.kill(int(self._supervisor.programs()["app"]["pid"]), signal.SIGTERM)

    def processes(self) -> list[str]:
        return [str(process) for process in proc.of_stack(self._config.state_dir)]

    def services(self) -> dict[str, str]:
        return {
            "model": self._config.address,
            "Prometheus": f"http://127.0.0.1:{self._config.prometheus_port}",
            "logs": str(self._logs),
        }

    def _is_current(self) -> bool:
        """What runs was started from what lies here now, and none of it has ended."""
        states = [info["statename"] for info in self._supervisor.programs().values()]
        return (
            self._fingerprint.exists()
            and self._fingerprint.read_text(encoding="ascii") == fingerprint(self._config)
            and all(state in ("STARTING", "RUNNING") for state in states)
        )

    def _refuse_taken_ports(self) -> None:
        wanted = {
            "HTTP_PORT": (self._config.http_host, self._config.http_port),
            "PROMETHEUS_PORT": ("127.0.0.1", self._config.prometheus_port),
        }
        taken = [f"{name}={port}" for name, (host, port) in wanted.items() if ports.taken(host, port)]
        if taken:
            raise StackError(f"Something else listens on {', '.join(taken)}: stop it, or choose another port.")

    def _start(self) -> None:
        config, folder = self._config, self._folder
        for each in (folder, self._logs, config.state_dir / "prometheus-data"):
            each.mkdir(parents=True, exist_ok=True)
        app, status, exporter = (f"127.0.0.1:{port}" for port in ports.free_ports(3))
        listen = f"[{config.http_host}]" if ":" in config.http_host else config.http_host
        nginx.write(
            folder / "nginx",
            nginx.variables(config, listen=f"{listen}:{config.http_port}", internal=status, app=app),
        )
        own = f"127.0.0.1:{config.prometheus_port}"
        prometheus.write(folder / "prometheus", {"app": app, "nginx": exporter, "prometheus": own})
        programs = [
            Program(
                name="nginx",
                command=nginx.command(folder / "nginx"),
                directory=folder / "nginx",
                priority=10,
                stop_signal="QUIT",
            ),
            Program(
                name="app",
                command=[str(VENV / "bin" / "gunicorn"), "--config", "docker/gunicorn.conf.py"],
                directory=ROOT,
                priority=20,
                stop_seconds=config.stop_seconds,
            ),
            Program(
                name="nginx-exporter",
                command=[
                    packages.program("prometheus-nginx-exporter"),
                    f"-nginx.scrape-uri=http://{status}/stub_status",
                    f"-web.listen-address={exporter}",
                    "-nginx.retries=20",  # it ends when nginx is not there yet
                    "-nginx.retry-interval=1s",
                ],
                directory=folder,
                priority=30,
            ),
            Program(
                name="prometheus",
                command=prometheus.command(folder / "prometheus", config.state_dir / "prometheus-data", own),
                directory=folder,
                priority=40,
            ),
        ]
        settings = supervisor.write_config(folder, self._logs, programs)
        self._fingerprint.write_text(fingerprint(config), encoding="ascii")
        print("Starting the app, nginx and Prometheus", flush=True)
        supervisor.start(PYTHON, settings, self._environment(app))

    def _environment(self, app: str) -> dict[str, str]:
        host, _, port = app.partition(":")
        return {
            **os.environ,
            proc.MARKER: str(self._config.state_dir),
            "APP_HOST": host,
            "APP_PORT": port,
            "HTTP_HOST": self._config.http_host,
            "MODELS_DIR": str(self._config.models_dir),
            "PYTHONUNBUFFERED": "1",
        }


class _Watch:
    """While the stack starts nothing may end: raises StackError with the last words of a service that did."""

    def __init__(self, control: Supervisor, logs: Path) -> None:
        self._control = control
        self._logs = {name: logs / f"{name}.log" for name in SERVICES}
        self._old = {name: path.stat().st_size for name, path in self._logs.items() if path.exists()}
        self._pids: dict[str, int] = {}

    def __call__(self) -> None:
        for name, info in self._control.programs().items():
            pid = info["pid"] or self._pids.get(name, 0)
            ended = info["statename"] in ("BACKOFF", "EXITED", "FATAL")
            if ended or self._pids.setdefault(name, pid) != pid:
                # supervisor forgets the code of what ended in its first seconds, or was started again
                code = f" (code {info['exitstatus']})" if info["statename"] == "EXITED" else ""
                raise StackError(f"{name} ended{code}. Its last words:\n{self._last_words(name)}")

    def _last_words(self, name: str) -> str:
        """Of this start, not of those before."""
        if not self._logs[name].exists():
            return "(none)"
        with self._logs[name].open("rb") as log:
            log.seek(self._old.get(name, 0))
            lines = [line.decode(errors="replace").rstrip("\n") for line in deque(log, LAST_LINES)]
        return "\n".join(readable(name, line, colour=False) for line in lines)
