"""Waiting until a native stack answers, while telling the operator what the app is doing."""

from __future__ import annotations

import sys
import time

from stack.client import ask, served_model
from stack.config import Config
from stack.native.watch import Watch
from stack.protocol import StackError

POLL_SECONDS = 0.3
SIDECAR_SECONDS = 60  # Prometheus may read back a long log of its own; the model does not wait for it


def wait_until_ready(config: Config, watch: Watch, app: str | None) -> None:
    """Return when the model answers, and Prometheus too where it stays. Raises StackError as `watch` does.

    `app` is the HOST:PORT of this stack's own app, where it is known: behind nginx another box may answer before.
    """
    own = config.address if app is None else f"http://{app}"
    deadline = time.monotonic() + config.startup_deadline + 60
    sidecars = None  # until when they are waited for, once the model is ready
    teller = _Teller()
    try:
        while True:
            watch.look()
            if served_model(config) is None or not _ready(f"{own}/readyz"):
                teller.tell(_what_it_does(own))
            else:
                waiting = _waiting(config, watch)
                sidecars = sidecars or time.monotonic() + SIDECAR_SECONDS
                if not waiting or time.monotonic() > sidecars:
                    return
                teller.tell(f"the model is ready; waiting for {', '.join(waiting)}")
            if time.monotonic() > deadline:
                raise StackError(f"Not ready within {config.startup_deadline + 60:g} s (STARTUP_DEADLINE).")
            time.sleep(POLL_SECONDS)
    finally:
        teller.end()


def _waiting(config: Config, watch: Watch) -> list[str]:
    waiting = watch.settling()
    prometheus = f"http://127.0.0.1:{config.prometheus_port}/-/ready"
    if not waiting and watch.stays("prometheus") and not _ready(prometheus):
        return ["prometheus"]
    return waiting


def _ready(url: str) -> bool:
    answer = ask(url)
    return answer is not None and answer.status == 200


def _what_it_does(address: str) -> str:
    answer = ask(f"{address}/startupz")
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
