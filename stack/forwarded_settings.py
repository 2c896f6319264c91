"""What the hubs' clients and pip read from their environment may stand in `.env` too, like every other setting."""

from __future__ import annotations

import os
from pathlib import Path

from stack.config import ROOT, read_env_file

NAMES = (
    "HF_ENDPOINT",
    "HF_TOKEN",
    "MODELSCOPE_DOMAIN",
    "MODELSCOPE_API_TOKEN",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
)


def hand_on(env_file: Path = ROOT / ".env") -> None:
    """Put them into this process' environment, for everything that it starts; what the shell says comes first."""
    for name, value in read_env_file(env_file).items():
        if name in NAMES and name.lower() not in os.environ:
            os.environ.setdefault(name, value)
