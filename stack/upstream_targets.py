"""Where Prometheus finds the metrics of a remote engine's servers: beside the API that ENGINE_URL names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import urlsplit

_BASE = "/v1"


def listed(addresses: Sequence[str]) -> str:
    """A file of targets. `instance` is the server's name in the app's own metrics and log lines."""
    return json.dumps([_target(address.rstrip("/")) for address in addresses])


def _target(address: str) -> dict[str, object]:
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]  # without what may be a password
    path = parts.path.removesuffix(_BASE)
    labels = {"instance": f"{host}{path}", "__scheme__": parts.scheme, "__metrics_path__": f"{path}/metrics"}
    return {"targets": [host], "labels": labels}
