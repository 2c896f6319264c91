"""supervisor: its configuration for the native stack, and its control socket."""

from __future__ import annotations

import hashlib
import os
import shlex
import socket
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy, Transport

from stack.config import ROOT
from stack.install import venvs
from stack.protocol import StackError

_SOCKET_PATH_LIMIT = 100  # bytes; the kernel's is 107


@dataclass(frozen=True)
class Program:
    """One supervised process. They start by ascending `priority` and stop in the opposite order."""

    name: str
    command: list[str]
    directory: Path
    priority: int
    stop_signal: str = "TERM"
    stop_seconds: int = 15


@dataclass(frozen=True)
class Retention:
    """How much is kept of each program's log."""

    megabytes: int  # of one file
    files: int  # with the current one
    days: int  # 0: whatever their age


def socket_path(folder: Path) -> Path:
    """In the stack's own folder, or where that path is too long for a socket, in a short private one."""
    preferred = folder / "supervisor.sock"
    if len(os.fsencode(preferred)) <= _SOCKET_PATH_LIMIT:
        return preferred
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"serving-{os.getuid()}-{digest}" / "supervisor.sock"


def write_config(folder: Path, logs: Path, programs: list[Program], retention: Retention) -> Path:
    """FOLDER/supervisord.conf.

    Raises StackError when the socket's folder is somebody else's.
    """
    control = socket_path(folder)
    control.parent.mkdir(mode=0o700, exist_ok=True)
    if control.parent.stat().st_uid != os.getuid():
        raise StackError(f"{control.parent} belongs to another user: remove that folder.")
    sections = [
        _section("unix_http_server", file=control, chmod="0600"),
        _section(
            "rpcinterface:supervisor",
            **{"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
        _section(
            "supervisord",
            pidfile=folder / "supervisord.pid",
            logfile=logs / "supervisor.log",
            logfile_maxbytes="5MB",
            logfile_backups=2,
            childlogdir=logs,
            directory=folder,
            umask="077",  # every log, after a rotation too: they hold prompts
            **({"user": "root"} if os.getuid() == 0 else {}),
        ),
        *(_program(program, logs, retention) for program in programs),
        *([_listener(logs, retention)] if retention.days else []),
    ]
    path = folder / "supervisord.conf"
    path.write_text("\n".join(sections), encoding="utf-8")
    return path


def start(python: Path, config: Path, environment: dict[str, str]) -> None:
    """Returns when supervisor runs in the background. Its children get `environment`."""
    command = [str(python), "-m", "supervisor.supervisord", "--configuration", str(config)]
    # Its own log is opened before its setting `umask` holds.
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, umask=0o077)
    if done.returncode != 0:
        raise StackError(f"supervisor did not start: {(done.stderr or done.stdout).strip()}")


class Supervisor:
    """The control socket. Every method raises StackError when nobody answers."""

    def __init__(self, folder: Path) -> None:
        self._path = socket_path(folder)

    def alive(self) -> bool:
        try:
            self._call("getState")
        except StackError:
            return False
        return True

    def pid(self) -> int:
        return int(self._call("getPID"))

    def programs(self) -> dict[str, dict[str, Any]]:
        """By name: `statename`, `pid`, `exitstatus`, `spawnerr`, …, as supervisor's documentation has them."""
        return {info["name"]: info for info in self._call("getAllProcessInfo")}

    def start(self, name: str) -> None:
        """Ask for a program that does not run. Returns at once, also when it ends at once: its state tells."""
        with suppress(StackError):
            self._call("startProcess", name, False)

    def shut_down(self) -> None:
        """Ask for the end of everything. Returns at once."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: object) -> Any:
        proxy = ServerProxy("http://supervisor", transport=_UnixTransport(self._path))
        try:
            return getattr(proxy.supervisor, method)(*arguments)
        except (OSError, HTTPException, Fault) as error:
            raise StackError(f"supervisor does not answer: {error}") from None
        finally:
            proxy("close")()


class _UnixTransport(Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> HTTPConnection:  # noqa: ARG002  # there is one socket
        connection = HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(10)
        try:
            connection.sock.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        return connection


def _program(program: Program, logs: Path, retention: Retention) -> str:
    return _section(
        f"program:{program.name}",
        command=shlex.join(program.command),
        directory=program.directory,
        priority=program.priority,
        autorestart="true",
        startsecs=2,
        startretries=3,
        stopsignal=program.stop_signal,
        stopwaitsecs=program.stop_seconds,
        killasgroup="true",
        redirect_stderr="true",
        stdout_logfile=str(logs / f"{program.name}.log").replace("%", "%%"),  # supervisor expands this one twice
        stdout_logfile_maxbytes=f"{retention.megabytes}MB",
        stdout_logfile_backups=retention.files - 1,
    )


def _listener(logs: Path, retention: Retention) -> str:
    command = [
        str(venvs.PYTHON),
        "-m",
        "stack.native.retention",
        str(logs),
        str(retention.days),
        str(retention.files),
    ]
    return _section(
        "eventlistener:retention",
        command=shlex.join(command),
        directory=ROOT,
        events="TICK_3600",
        priority=50,
        stderr_logfile=str(logs / "retention.log").replace("%", "%%"),
        stderr_logfile_maxbytes="1MB",
        stderr_logfile_backups=0,
    )


def _section(name: str, **values: object) -> str:
    escaped = {key: str(value).replace("%", "%%") for key, value in values.items()}
    return "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in escaped.items()), ""])
