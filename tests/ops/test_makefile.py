"""The Makefile documents itself, and its help is true."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stack.config import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PHONY = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)
DOCUMENTED = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)


def make(*arguments: str) -> str:
    return subprocess.run(["make", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_make_alone_prints_every_target() -> None:
    printed = re.findall(r"^  make ([a-z-]+) +\S", make(), re.MULTILINE)
    assert printed == DOCUMENTED
    assert {"up", "doctor", "down", "restart", "logs", "smoke", "status", "test", "test-docker", "lock"} <= set(
        printed
    )


def test_only_the_bootstrap_is_undocumented() -> None:
    assert set(PHONY) - set(DOCUMENTED) == {"python"}


def test_make_test_fails_when_too_little_of_the_code_is_run(tmp_path: Path) -> None:
    (options,) = re.findall(r"^COVERAGE := (.+)$", MAKEFILE, re.MULTILINE)
    assert options in make("--dry-run", "test")
    command = [sys.executable, "-m", "pytest", "-q", *options.split(), "tests/unit/contract"]
    environment = {**os.environ, "COVERAGE_FILE": str(tmp_path / "coverage")}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert " passed" in done.stdout
    assert re.search(r"Required test coverage of \d+\.\d% not reached", done.stdout + done.stderr)


@pytest.mark.parametrize("target", DOCUMENTED)
def test_every_target_can_be_made(target: str) -> None:
    """A dry run: no rule is missing, and something would happen."""
    assert make("--dry-run", target).strip()
