"""Prometheus' configuration for the native stack: the repository's own, with this stack's addresses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from stack.config import ROOT
from stack.install.packages import program
from stack.upstream_targets import listed


def write(folder: Path, targets: dict[str, str], upstreams: Sequence[str] = ()) -> None:
    """Copy the configuration and rules to FOLDER; `targets` is job → HOST:PORT, `upstreams` are a remote
    engine's addresses.

    The label `instance` is the job's name: the inner ports are others at each start, and by default each would begin
    new series.
    """
    source = ROOT / "monitoring" / "prometheus"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "prometheus.yml", folder / "prometheus.yml")
    shutil.rmtree(folder / "rules", ignore_errors=True)
    shutil.copytree(source / "rules", folder / "rules")
    shutil.rmtree(folder / "targets", ignore_errors=True)
    (folder / "targets").mkdir()
    for job, address in targets.items():
        path = folder / "targets" / f"{job}.json"
        path.write_text(json.dumps([{"targets": [address], "labels": {"instance": job}}]), encoding="utf-8")
    (folder / "targets" / "upstreams.json").write_text(listed(upstreams), encoding="utf-8")


def command(folder: Path, data: Path, address: str) -> list[str]:
    """Run that configuration in the foreground."""
    return [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=30d",
        "--storage.tsdb.retention.size=2GB",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
    ]
