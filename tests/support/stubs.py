"""Programs that this machine lacks, played by scripts at the front of PATH: NVIDIA's tool, another Docker."""

import os
from pathlib import Path

import pytest


def play(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """`name` is found first, and is this shell script."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    path = os.environ["PATH"]
    if not path.startswith(f"{folder}{os.pathsep}"):
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{path}")


def nvidia_smi(*cards: tuple[str, int], driver: str) -> str:
    """A driver with these cards, (name, MiB) each: answers every list of fields that it is asked for."""
    rows = "\n".join(
        f'fill "{name}" {mebibytes} {number} GPU-{number:08d}-0000' for number, (name, mebibytes) in enumerate(cards)
    )
    return f"""
for argument; do case $argument in --query-gpu=*) fields=${{argument#--query-gpu=}} ;; esac; done
fill() {{
  line=$fields
  line=$(echo "$line" | sed -e "s/index/$3/" -e "s/uuid/$4/" -e "s/name/$1/" -e "s/memory.total/$2/" \\
    -e "s/driver_version/{driver}/" -e "s/compute_cap/8.9/" -e "s/,/, /g")
  echo "$line"
}}
{rows}
"""
