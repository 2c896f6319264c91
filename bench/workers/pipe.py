"""Runs a contestant in a process of its own: JSON lines in, JSON lines out.

Each gets a fresh process, because torch's thread pools stay with the threads that first used them, and two models in
one process would disturb each other. A process that waits for its next line uses no CPU, so contestants can
take turns without loading again.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from bench.errors import Failed
from stack.config import ROOT

LOGS = ROOT / "var" / "bench" / "logs"
_PATIENCE = 30  # seconds that a process gets to end


class Worker:
    """The parent's side."""

    def __init__(self, process: "subprocess.Popen[str]", name: str) -> None:
        self._questions = cast("TextIO", process.stdin)
        self._answers = cast("TextIO", process.stdout)
        self._name = name
        self.ready: dict[str, Any] = self._read()
        """The process's first answer, when it was ready."""

    def ask(self, **question: Any) -> dict[str, Any]:
        """Raises Failed when the process has ended."""
        print(json.dumps(question), file=self._questions, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise Failed(f"{self._name} ended; see {LOGS / self._name}.log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """The process ends when its input is closed."""
        self._questions.close()


@contextmanager
def worker(
    module: str, *arguments: str, name: str, environment: Mapping[str, str] | None = None, folder: Path = ROOT
) -> Iterator[Worker]:
    """`python -m MODULE ARGUMENTS` in a folder, ready; it ends with the context. What it prints goes to a log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            contestant = Worker(process, name)
            yield contestant
            contestant.close()
            process.wait(_PATIENCE)
        finally:
            process.kill()
            process.wait()


def answers() -> TextIO:
    """The child's side: the pipe for its answers. What it prints otherwise goes to stderr from now on."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return pipe


def serve(pipe: TextIO, ready: Mapping[str, Any], answer: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Say `ready`, then answer each question until the parent closes the pipe."""
    print(json.dumps(ready), file=pipe, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=pipe, flush=True)
