"""The examples of docs/api.md work, as they stand there, on the running stack."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.api.openapi.operations import OPERATIONS
from stack.config import ROOT
from tests.e2e.conftest import Running

DEFAULT = "http://127.0.0.1:6006"
TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(bash|python)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
ADDRESSES = {found or "/" for _, code in EXAMPLES for found in re.findall(r"(?:6006|{base})(/[\w./]*)?", code)}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(stack: Running, tmp_path: Path, number: int) -> None:
    language, code = EXAMPLES[number]
    assert DEFAULT in code
    file = tmp_path / "example"
    file.write_text(code.replace(DEFAULT, stack.config.address), encoding="utf-8")
    command = ["bash", "-e"] if language == "bash" else [sys.executable]
    done = subprocess.run([*command, file], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
    assert done.stdout.strip() or "-o /dev/null" in code


@pytest.mark.parametrize("path", sorted({operation.path for operation in OPERATIONS}))
def test_every_path_is_in_an_example(path: str) -> None:
    assert path.partition("{")[0] in ADDRESSES
