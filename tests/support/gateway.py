"""An app whose engine is remote."""

import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from app.contract.telemetry import Observer, Observers
from app.keys.book import KeyBook
from app.main import Parts, assemble
from app.remote.service import RemoteService
from app.remote.tokenization import NoTokenizer
from app.settings import EngineKind, Settings
from tests.support.patience import PATIENCE


def gateway(*addresses: str, observer: Observer, **settings: Any) -> FastAPI:
    """In front of the servers of these addresses."""
    chosen = Settings(engine=EngineKind.REMOTE, engine_url=addresses, _env_file=None, **settings)
    observers = Observers([observer])
    keys = KeyBook(chosen.api_keys_file, observers)
    service = RemoteService(observers, chosen, keys.terms)
    parts = Parts(service, service, NoTokenizer())
    return assemble(chosen, keys, parts, observers, lambda _: (b"up 1\n", "text/x"), close=lambda: None)


def wait_until_ready(status: Callable[[], int]) -> None:
    """`status` asks the probe: a gateway is ready once it has asked its servers."""
    deadline = time.monotonic() + PATIENCE
    while status() != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
