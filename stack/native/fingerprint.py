"""What a running stack was started from: after a change `make up` starts it anew, else it leaves it alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from stack.config import ROOT, Config, known_settings
from stack.native.programs import sidecar_programs

_SOURCES = ("app", "docker", "stack", "nginx", "monitoring/prometheus", "requirements")


def fingerprint(config: Config) -> str:
    """A digest of the code, the templates, `.env`, the keys, the environment's settings, and what is installed."""
    digest = hashlib.sha256(repr((config, sidecar_programs())).encode())
    for path in _files(config):
        digest.update(f"\0{path}\0".encode() + path.read_bytes())
    for name in known_settings():
        digest.update(f"\0{name}={os.environ.get(name, '')}".encode())
    return digest.hexdigest()


def _files(config: Config) -> Iterator[Path]:
    for source in _SOURCES:
        yield from sorted(
            path
            for path in (ROOT / source).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
        )
    for path in (ROOT / ".env", config.api_keys_file):
        if path is not None and path.is_file():
            yield path
