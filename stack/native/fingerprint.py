"""What a running stack was started from: after a change `make up` starts it anew, else it leaves it alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from stack.config import ENV_FILE, ROOT, Config, known_settings
from stack.native.programs import sidecar_programs

_SOURCES = ("app", "docker", "stack", "nginx", "monitoring/prometheus", "requirements")


def fingerprint(config: Config) -> str:
    """A digest of the code, the templates, `.env`, the environment's settings, and what is installed.

    Not of the API keys: the app reads them again when they change.
    """
    digest = hashlib.sha256(repr((config, sidecar_programs())).encode())
    for path in _files():
        digest.update(f"\0{path}\0".encode() + path.read_bytes())
    for name in known_settings():
        digest.update(f"\0{name}={os.environ.get(name, '')}".encode())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    for source in _SOURCES:
        yield from sorted(
            path
            for path in (ROOT / source).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
        )
    if ENV_FILE.is_file():
        yield ENV_FILE
