"""What the Docker engine says of itself."""

from __future__ import annotations

import subprocess
from pathlib import Path


def tell(*arguments: str) -> str:
    """What `docker …` prints; "" when it fails."""
    try:
        done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def root() -> Path | None:
    """Where it keeps images and volumes; None when that is on another machine, or on a virtual one."""
    told = tell("info", "--format", "{{.DockerRootDir}}")
    return Path(told) if told and Path(told).parent.is_dir() else None
