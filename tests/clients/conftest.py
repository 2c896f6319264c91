"""Runs a client's program, in its own environment, against the running stack."""

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stack.config import ROOT
from tests.e2e.conftest import START_SECONDS, Running, _stack, stack  # noqa: F401  # fixtures
from tests.support.node import NODE

HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / "var" / "clients"
SECONDS = 240  # of one program, on a slow machine

RunProgram = Callable[..., Any]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("clients")
            item.add_marker(pytest.mark.timeout(START_SECONDS + SECONDS))


@pytest.fixture
def run_program(stack: Running) -> RunProgram:  # noqa: F811  # the fixture
    """Runs `python/NAME.py` or `node/NAME.mjs` and returns the JSON that it prints."""

    def run(name: str, environment: str = "agents") -> Any:
        python = ENVIRONMENTS / environment / "bin" / "python"
        program = HERE / ("node" if name.endswith(".mjs") else "python") / name
        done = subprocess.run(
            [NODE if name.endswith(".mjs") else python, program],
            check=False,
            env=os.environ | _settings(stack.config.address),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def _settings(address: str) -> Mapping[str, str]:
    """What an operator of such a program sets, and no more; and that nobody is told of it."""
    return {
        "OPENAI_BASE_URL": f"{address}/v1",
        "OPENAI_API_KEY": "none",
        "ANTHROPIC_BASE_URL": address,
        "ANTHROPIC_API_KEY": "none",
        "OPENAI_AGENTS_DISABLE_TRACING": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
