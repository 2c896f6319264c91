"""The processes of a native stack. The app and nginx are the service; it also serves without the others."""

from __future__ import annotations

from pathlib import Path

from stack import nginx
from stack.config import ROOT, Config
from stack.host import ports
from stack.install import packages, venvs
from stack.native import prometheus
from stack.native.supervisor import Program
from stack.protocol import ESSENTIAL

SIDECARS = {"nginx-exporter": "prometheus-nginx-exporter", "prometheus": "prometheus"}
"""Service → the program that it needs, which is also the Debian package's name."""
SERVICES = (*ESSENTIAL, *SIDECARS)
EXPORTER_PATIENCE = {"NGINX_RETRIES": "20", "NGINX_RETRY_INTERVAL": "1s"}
"""In the exporter's environment: Debian 12's ends when nginx is not there yet; newer ones refuse the flags for it."""


def not_installed() -> list[str]:
    """The sidecars that this machine does not have."""
    return [name for name, path in sidecar_programs().items() if path is None]


def sidecar_programs() -> dict[str, str | None]:
    """Service → the path of its program; None where it is not installed."""
    return {name: packages.which(program) for name, program in SIDECARS.items()}


def lay_out(config: Config, folder: Path) -> tuple[str, list[Program]]:
    """Write every configuration below FOLDER; the app's HOST:PORT, and what supervisor is to run."""
    app, status, exporter = (f"127.0.0.1:{port}" for port in ports.free_ports(3))
    listen = f"[{config.http_host}]" if ":" in config.http_host else config.http_host
    nginx.write(
        folder / "nginx",
        nginx.variables(config, listen=f"{listen}:{config.http_port}", internal=status, app=app),
    )
    programs = [_nginx(folder), _app(config)]
    missing = not_installed()
    if "nginx-exporter" not in missing:
        programs.append(_exporter(folder, status=status, listen=exporter))
    if "prometheus" not in missing:
        own = f"127.0.0.1:{config.prometheus_port}"
        targets = {"app": app, "nginx": exporter, "prometheus": own}
        if "nginx-exporter" in missing:
            del targets["nginx"]
        prometheus.write(folder / "prometheus", targets, config.engine_urls)
        programs.append(_prometheus(config, folder, listen=own))
    return app, programs


def _nginx(folder: Path) -> Program:
    return Program(
        name="nginx",
        command=nginx.command(folder / "nginx"),
        directory=folder / "nginx",
        priority=10,
        stop_signal="QUIT",
    )


def _app(config: Config) -> Program:
    return Program(
        name="app",
        command=[str(venvs.VENV / "bin" / "gunicorn"), "--config", "docker/gunicorn.conf.py"],
        directory=ROOT,
        priority=20,
        stop_seconds=config.stop_seconds,
    )


def _exporter(folder: Path, *, status: str, listen: str) -> Program:
    return Program(
        name="nginx-exporter",
        command=[
            packages.program(SIDECARS["nginx-exporter"]),
            f"--nginx.scrape-uri=http://{status}/stub_status",
            f"--web.listen-address={listen}",
        ],
        directory=folder,
        priority=30,
    )


def _prometheus(config: Config, folder: Path, *, listen: str) -> Program:
    return Program(
        name="prometheus",
        command=prometheus.command(folder / "prometheus", config.state_dir / "prometheus-data", listen),
        directory=folder,
        priority=40,
    )
