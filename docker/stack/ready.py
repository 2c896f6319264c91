"""Waiting until a native stack answers, while telling the operator what the app is doing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from docker.stack.base import StackError
from docker.stack.client import ask
from docker.stack.config import Config

POLL_SECONDS = 0.3


def served_model(config: Config) -> str | None:
    """The name of the model that is ready to answer behind nginx; None while there is none."""
    answer = ask(f"{config.address}/readyz")
    if answer is None or answer.status != 200 or not isinstance(answer.body, dict):
        return None
    return str(answer.body.get("model", "unknown"))


def wait_until_ready(config: Config, still_alive: Callable[[], None]) -> None:
    """Return when the model and Prometheus answer.

    `still_alive` is called at every look and raises StackError when waiting is pointless.
    """
    deadline = time.monotonic() + config.startup_deadline + 60
    teller = _Teller()
    try:
        while True:
            still_alive()
            model = served_model(config)
            if model is not None and _prometheus_ready(config):
                return
            teller.tell(_what_it_does(config) if model is None else "the model is ready; waiting for Prometheus")
            if time.monotonic() > deadline:
                raise StackError(f"Not ready within {config.startup_deadline + 60:g} s (STARTUP_DEADLINE).")
            time.sleep(POLL_SECONDS)
    finally:
        teller.end()


def _prometheus_ready(config: Config) -> bool:
    answer = ask(f"http://127.0.0.1:{config.prometheus_port}/-/ready")
    return answer is not None and answer.status == 200


def _what_it_does(config: Config) -> str:
    answer = ask(f"{config.address}/startupz")
    if answer is None or not isinstance(answer.body, dict) or "phase" not in answer.body:
        return "starting the app"
    detail = answer.body.get("detail") or ""
    return f"{answer.body['phase']} {float(answer.body.get('progress', 0)):4.0%}  {detail}".rstrip()


class _Teller:
    """On a terminal one line that changes, else a line for each change."""

    def __init__(self) -> None:
        self._tty = sys.stdout.isatty()
        self._last = ""

    def tell(self, text: str) -> None:
        if text == self._last:
            return
        self._last = text
        print(f"\r\x1b[2K  {text}" if self._tty else f"  {text}", end="" if self._tty else "\n", flush=True)

    def end(self) -> None:
        if self._tty and self._last:
            print("\r\x1b[2K", end="", flush=True)
