"""vLLM's server, in its build for CPUs, on the embedded model, and a gateway in front of it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import sleep

import httpx2
import psutil
import pytest

from stack.config import ROOT
from tests.remote.conftest import ask, closing, until  # noqa: F401  # fixtures
from tests.support.prometheus import free_port

PYTHON = ROOT / "var" / "vllm" / "bin" / "python"
HERE = Path(__file__).parent
CONTEXT = 2048
OPTIONS = f"""--served-model-name smollm2 --dtype float32 --max-model-len {CONTEXT} --enforce-eager --host 127.0.0.1
    --enable-prompt-tokens-details --enable-auto-tool-choice --tool-call-parser hermes""".split()
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "2",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # a core may not be ours alone
    "VLLM_NO_USAGE_STATS": "1",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("vllm")


class Vllm:
    """A server, which has begun to start."""

    def __init__(self, model: Path, log: Path, *options: str) -> None:
        port = free_port()
        self.root = f"http://localhost:{port}"
        self.address = f"{self.root}/v1"
        self._log = log
        command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *OPTIONS, *options]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*command, "--port", str(port)],
                env=os.environ | ENVIRONMENT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until it answers, for as long as a test may take."""
        while True:
            assert self._process.poll() is None, f"vLLM has ended:\n{self._log.read_text()[-4000:]}"
            try:
                if httpx2.get(f"{self.root}/health", timeout=10).status_code == 200:
                    return
            except httpx2.HTTPError:
                sleep(0.2)

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        lines = httpx2.get(f"{self.root}/metrics", timeout=60).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    def send(self, number: signal.Signals) -> None:
        """To all of its processes."""
        main = psutil.Process(self._process.pid)
        for process in [*main.children(recursive=True), main]:
            process.send_signal(number)

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture(scope="session")
def vllm(embedded_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """For the tests that leave it as it was."""
    with contextlib.closing(Vllm(embedded_model, tmp_path_factory.mktemp("vllm") / "log")) as server:
        server.wait()
        yield server


@pytest.fixture
def narrow(embedded_model: Path, tmp_path: Path) -> Iterator[Vllm]:
    """Takes one request at a time and refuses others. It may be ended."""
    with contextlib.closing(Vllm(embedded_model, tmp_path / "log", "--max-num-queued-reqs", "1")) as server:
        server.wait()
        yield server


@pytest.fixture
def direct(vllm: Vllm) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"{vllm.address}/", timeout=120) as client:
        yield client
