"""Weights and containers, by a real engine: a hub's files fetched in the foreground, and a folder of this machine."""

import os
import pty
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.models.catalogue import DEEPSEEK, HubSource
from stack.config import ROOT, load_config
from stack.containers import images, weights
from stack.containers.compose import Compose
from tests.support.gpu_image import built
from tests.support.hub import Hub, serve

pytestmark = [pytest.mark.docker, pytest.mark.timeout(1800)]


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Where containers reach it: on this machine's own address."""
    assert isinstance(DEEPSEEK.source, HubSource)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; tells by which address the machine would
        address = probe.getsockname()[0]
    files = {"model.safetensors": bytes(1_000_000), "config.json": b"{}", "tokenizer.json": b"{}"}
    with serve(Hub(DEEPSEEK.source.repository, DEEPSEEK.source.revision, files), host=address) as listening:
        yield listening


def test_a_fetch_shows_its_bar_and_is_not_repeated(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compose = built("cpu")
    folder = tmp_path / "weights"
    config = load_config({"STATE_DIR": str(tmp_path), "MODELS_DIR": str(folder)}, env_file=Path(os.devnull))
    wanted = weights.of_catalogue(config, DEEPSEEK.name)
    assert wanted.fetch
    compose.variables.update(wanted.variables, HF_ENDPOINT=hub.url)
    said = _on_a_terminal([*compose.command("run", "--rm", "models")], compose.variables)
    compose.run("down")
    assert "100 %" in said
    assert "━" in said, "no bar"
    assert (folder / DEEPSEEK.name / "model.safetensors").stat().st_size == 1_000_000
    again = weights.of_catalogue(config, DEEPSEEK.name)
    assert not again.fetch
    assert again.variables == {"MODELS_MOUNT": str(folder)}


def _on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """What the command writes to a terminal. Raises when it fails."""
    ours, theirs = pty.openpty()
    heard: list[bytes] = []

    def listen() -> None:
        while True:
            try:
                heard.append(os.read(ours, 65_536))
            except OSError:  # the other end is closed
                return

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        done = subprocess.run(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, check=False)
    finally:
        os.close(theirs)
        listener.join()
        os.close(ours)
    said = b"".join(heard).decode(errors="replace")
    assert done.returncode == 0, said
    return said


@pytest.mark.model
def test_a_folder_of_this_machine_is_what_the_app_would_serve(tmp_path: Path, embedded_model: Path) -> None:
    state = ROOT / "var" / "weights"  # always the same, or images would pile up
    config = load_config({"STATE_DIR": str(state), "MODEL": str(embedded_model)}, env_file=Path(os.devnull))
    compose = Compose(config)
    compose.weights = True
    compose.variables.update(images.build_arguments(), **weights.of_folder(config).variables)
    images.provide(images.wanted({"app": compose.services()["app"]}))
    compose.run("build", "app")
    try:
        done = compose.ask("run", "--rm", "--no-deps", "-T", "app", "python", "-m", "app", "models", "list")
    finally:
        compose.run("down")
    assert done.returncode == 0, done.stderr
    assert f"Served: {embedded_model.name} from /weights/{embedded_model.name}: MODEL names it" in done.stdout
