"""The stack as plain processes under supervisor: the app, nginx, nginx's exporter and Prometheus.

Everything is below STATE_DIR: `native/` holds what is written anew at each start, `logs/` and `prometheus-data/`
stay. Only HTTP_PORT and PROMETHEUS_PORT are fixed; the inner ports are whatever is free on loopback.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stack.config import Config
from stack.install import packages, venvs
from stack.install.dependencies import ensure_dependencies, ensure_model
from stack.native import processes, supervisor
from stack.native.fingerprint import fingerprint
from stack.native.follow import follow_files
from stack.native.programs import EXPORTER_PATIENCE, SERVICES, SIDECARS, lay_out, not_installed
from stack.native.ready import wait_until_ready
from stack.native.supervisor import Retention, Supervisor
from stack.native.watch import Watch
from stack.protocol import ESSENTIAL, StackError


class NativeStack:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._folder = config.state_dir / "native"
        self._logs = config.state_dir / "logs"
        self._fingerprint = self._folder / "fingerprint"
        self._supervisor = Supervisor(self._folder)

    def up(self) -> None:
        running = self._supervisor.alive()
        if not running and processes.of_stack(self._config.state_dir):
            print("Stopping processes that an earlier start left behind", flush=True)
            self.down()
        packages.ensure(packages.RUNTIME, venvs.find_python())
        ensure_dependencies("runtime")
        ensure_model(self._config)
        if running and not self._is_current():
            print("The stack runs with other settings or code, or a service has stopped: restarting it", flush=True)
            self.down()
            running = False
        watch = Watch(self._supervisor, self._logs)
        app = None
        try:
            if running:
                self._wake_sidecars()
            else:
                app = self._start()
            wait_until_ready(self._config, watch, app)
        except BaseException:  # also Ctrl-C: half a stack is worse than none
            if not running:
                self.down()
            raise
        self._tell_what_is_missing(watch)

    def down(self) -> None:
        if self._supervisor.alive():
            pid = self._supervisor.pid()
            self._supervisor.shut_down()
            print(f"Stopping; running requests get up to {self._config.drain_seconds} s to finish", flush=True)
            processes.wait([pid], 2 * self._config.stop_seconds)
        processes.end(
            [process.pid for process in processes.of_stack(self._config.state_dir)], grace=self._config.stop_seconds
        )
        left = self.processes()
        if left:
            raise StackError("These processes do not end: " + "; ".join(left))
        self._fingerprint.unlink(missing_ok=True)

    def log_lines(self, follow: bool, tail: int | None = None) -> Iterator[tuple[str, str]]:
        files = {name: self._logs / f"{name}.log" for name in SERVICES}
        if follow:
            yield from follow_files(files, tail)
            return
        for name, path in files.items():
            for file in [*(_rotated(path) if tail is None else []), path]:
                # It may be put away or removed at any moment, and a service may have no log yet.
                with (
                    suppress(FileNotFoundError),
                    file.open(encoding="utf-8", errors="replace", newline="\n") as lines,
                ):
                    for line in lines if tail is None else deque(lines, tail):
                        yield name, line.rstrip("\n")

    def processes(self) -> list[str]:
        return [str(process) for process in processes.of_stack(self._config.state_dir)]

    def services(self) -> dict[str, str]:
        addresses = {
            "model": self._config.address,
            "Prometheus": f"http://127.0.0.1:{self._config.prometheus_port}",
            "logs": str(self._logs),
        }
        if not self._runs("prometheus"):
            del addresses["Prometheus"]
        return addresses

    def _runs(self, name: str) -> bool:
        return self._supervisor.programs().get(name, {}).get("statename") == "RUNNING"

    def _is_current(self) -> bool:
        """Whether the stack was started from the files and settings of now, and neither app nor nginx has ended."""
        programs = self._supervisor.programs()
        return (
            self._fingerprint.exists()
            and self._fingerprint.read_text(encoding="ascii") == fingerprint(self._config)
            and all(programs[name]["statename"] in ("STARTING", "RUNNING") for name in ESSENTIAL)
        )

    def _start(self) -> str:
        """The app's HOST:PORT."""
        config, folder = self._config, self._folder
        self._make_private_folders()
        app, programs = lay_out(config, folder)
        retention = Retention(config.log_megabytes, config.log_files, config.log_days)
        settings = supervisor.write_config(folder, self._logs, programs, retention)
        self._fingerprint.write_text(fingerprint(config), encoding="ascii")
        print(f"Starting {', '.join(program.name for program in programs)}", flush=True)
        supervisor.start(venvs.PYTHON, settings, self._environment(app))
        return app

    def _make_private_folders(self) -> None:
        """Logs and metrics hold what people asked: they are this user's alone, and so are those of earlier starts."""
        for each in (self._folder, self._logs, self._config.state_dir / "prometheus-data"):
            each.mkdir(parents=True, exist_ok=True)
            each.chmod(0o700)
        for log in self._logs.iterdir():
            log.chmod(0o600)

    def _wake_sidecars(self) -> None:
        """Those that supervisor has given up get another chance with each `make up`."""
        for name, info in self._supervisor.programs().items():
            if info["statename"] in ("FATAL", "EXITED", "STOPPED"):
                self._supervisor.start(name)

    def _tell_what_is_missing(self, watch: Watch) -> None:
        for name in not_installed():
            print(f"Serving without {name}, which is not installed: apt-get install {SIDECARS[name]}", flush=True)
        for name, words in watch.lost().items():
            print(f"Serving without {name}, which keeps exiting. The end of its log:\n{words}", flush=True)

    def _environment(self, app: str) -> dict[str, str]:
        host, _, port = app.partition(":")
        return {
            **os.environ,
            **EXPORTER_PATIENCE,
            processes.MARKER: str(self._config.state_dir),
            "APP_HOST": host,
            "APP_PORT": port,
            "HTTP_HOST": self._config.http_host,
            "MODELS_DIR": str(self._config.models_dir),
            "CACHE_DIR": str(self._config.cache_dir),
            "LOG_FOLDER": str(self._logs),
            "PYTHONUNBUFFERED": "1",
        }


def _rotated(path: Path) -> list[Path]:
    """Those that supervisor put away, oldest first."""
    found = [each for each in path.parent.glob(f"{path.name}.*") if each.suffix[1:].isdigit()]
    return sorted(found, key=lambda each: -int(each.suffix[1:]))
