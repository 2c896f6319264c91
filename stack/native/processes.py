"""Processes of one stack, found in /proc whatever became of their parent, and ended for certain."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MARKER = "SERVING_STACK"
"""In the environment of everything that a native stack starts; its value is the stack's state folder."""


@dataclass(frozen=True)
class Process:
    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.pid} {self.command}"


def of_stack(state_dir: Path) -> list[Process]:
    """Everything that this stack started and that runs."""
    mark = f"{MARKER}={state_dir}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):  # empty on macOS, where only containers run
        if int(entry.name) == os.getpid():
            continue
        try:
            if _belongs(entry, mark, state_dir):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.append(Process(int(entry.name), command))
        except OSError:  # it has just ended, or is another user's
            continue
    return found


def _belongs(entry: Path, mark: bytes, state_dir: Path) -> bool:
    if mark in (entry / "environ").read_bytes().split(b"\0"):
        return True
    # nginx writes its title over its environment; its working folder is the stack's own.
    is_nginx = (entry / "comm").read_text(encoding="utf-8", errors="replace").strip() == "nginx"
    return is_nginx and (entry / "cwd").readlink().is_relative_to(state_dir)


def end(pids: Iterable[int], grace: float) -> None:
    """SIGTERM, after `grace` seconds SIGKILL; returns when all are gone or SIGKILL had ten seconds."""
    pids = list(pids)
    send(pids, signal.SIGTERM)
    if not wait(pids, grace):
        send(pids, signal.SIGKILL)
        wait(pids, 10)


def send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def wait(pids: Iterable[int], seconds: float) -> bool:
    """Whether all have ended within `seconds`. They need not be our children."""
    deadline = time.monotonic() + seconds
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                return False
        finally:
            os.close(handle)
    return True
