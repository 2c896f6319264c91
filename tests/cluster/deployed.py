"""What the tests do with the cluster and the app on it."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from stack.config import ROOT
from tests.support.patience import PATIENCE

PYTHON = ROOT / "var" / "cluster" / "bin" / "python"
SECONDS = 2 * PATIENCE  # of one command: two processes load torch and the model


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.2)


class Nodes:
    """The program `nodes.py`."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        first = self._answer()
        self.address: str = first["address"]
        self.logs = Path(first["logs"])
        self._newest = -1

    def add(self) -> None:
        self._newest = self._ask("add")["added"]

    def kill(self) -> None:
        """The node that was added last."""
        self._ask(f"kill {self._newest}")

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the program nodes.py has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True)
class Reply:
    """`whole` is an answer with its end."""

    status: int
    text: str
    retry_after: str | None
    request_id: str
    whole: bool

    @property
    def says_retry(self) -> bool:
        """It failed by the loss of its replica, and the client is told so."""
        found = re.search(r'\{"error":\{.*\}\}', self.text)
        return found is not None and json.loads(found[0])["error"]["code"] == "interrupted"


class Deployed:
    """The app on the cluster, and the proxy of the head's node before it."""

    def __init__(self, nodes: Nodes, environment: Mapping[str, str], targets: Path) -> None:
        self.nodes = nodes
        self.url = f"http://127.0.0.1:{environment['APP_PORT']}"
        self.folder = targets
        self._environment = environment

    def command(
        self, *arguments: str, check: bool = True, folder: Path = ROOT, address: str = "", **settings: str
    ) -> str:
        """What `python -m app cluster` prints."""
        done = subprocess.run(
            [PYTHON, "-m", "app", "cluster", *arguments, "--address", address or self.nodes.address],
            cwd=folder,
            env={**self._environment, **settings},
            check=False,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self, *options: str, folder: Path = ROOT) -> None:
        self.command("up", "--targets", str(self.folder), *options, folder=folder)

    def replicas(self) -> dict[str, str]:
        """The address of each one's metrics."""
        found = {}
        for file in self.folder.glob("*.json"):
            (target,) = json.loads(file.read_text())
            found[target["labels"]["replica"]] = target["targets"][0]
        return found

    def process_of(self, replica: str) -> int:
        (file,) = self.folder.glob(f"*_{replica}.json")
        return int(file.name.split("_")[1])

    def metric(self, replica: str, name: str) -> float:
        text = requests.get(f"http://{self.replicas()[replica]}/metrics", timeout=PATIENCE).text
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        assert found, f"{name} is not among the metrics"
        return float(found[1])

    def ready(self) -> int:
        """How many replicas have loaded their model."""
        count = 0
        for replica in self.replicas():
            with suppress(requests.ConnectionError, KeyError):  # it was killed, or has just ended
                count += self.metric(replica, 'serving_engine_phase{phase="ready"}') == 1
        return count

    def log(self) -> list[dict[str, Any]]:
        """The lines of requests, of all replicas that there have been."""
        lines = []
        for file in self.nodes.logs.glob("worker-*.out"):
            with file.open(encoding="utf-8") as text:
                lines += [json.loads(line) for line in text if '"event":"request"' in line and line.endswith("\n")]
        return lines

    def post(
        self, body: Mapping[str, Any], *, timeout: float = SECONDS, as_it_comes: bool = False
    ) -> requests.Response:
        said = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "Tell a story."}], **body}
        url = f"{self.url}/v1/chat/completions"
        return requests.post(url, json=said, timeout=timeout, stream=as_it_comes)

    def ask(self, *, stream: bool, tokens: int = 60) -> Reply:
        response = self.post({"stream": stream, "max_tokens": tokens, "ignore_eos": True})
        end = "data: [DONE]" if stream else '"finish_reason":"length"'
        return Reply(
            response.status_code,
            response.text,
            response.headers.get("retry-after"),
            response.headers.get("x-request-id", ""),
            response.status_code == 200 and end in response.text,
        )

    @contextmanager
    def load(self, clients: int = 6) -> Iterator["Load"]:
        """Clients that ask again and again, half of them for streams, until the block ends."""
        load = Load(self)
        with ThreadPoolExecutor(clients) as pool:
            running: list[Future[None]] = [pool.submit(load.run, stream=bool(one % 2)) for one in range(clients)]
            try:
                yield load
            finally:
                load.stop.set()
                for one in running:
                    one.result()


class Load:
    def __init__(self, app: Deployed) -> None:
        self._app = app
        self.stop = threading.Event()
        self.replies: list[Reply] = []

    def run(self, *, stream: bool) -> None:
        while not self.stop.is_set():
            self.replies.append(self._app.ask(stream=stream))

    def wait_for(self, more: int) -> None:
        """Until so many more were answered."""
        wanted = len(self.replies) + more
        eventually(lambda: len(self.replies) >= wanted, f"{more} more answers")
