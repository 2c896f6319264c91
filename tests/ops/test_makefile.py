"""The Makefile documents itself, and its help is true."""

import re
import subprocess

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


@pytest.mark.parametrize("target", DOCUMENTED)
def test_every_target_can_be_made(target: str) -> None:
    """A dry run: no rule is missing, and something would happen."""
    assert make("--dry-run", target).strip()
