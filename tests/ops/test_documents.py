"""Documents name files that exist, by links and in back-ticks, and their lines are wrapped."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
).stdout.splitlines()
DOCUMENTS = [name for name in TRACKED if name.endswith(".md") and (ROOT / name).is_file()]
ENDINGS = {f"/{name}"[start.start() :] for name in TRACKED for start in re.finditer("/", f"/{name}")}
ELSEWHERE = {
    "/openapi.json",
    "manifest.json",
    "NNNN-what-was-decided.md",
    "pip.conf",
    "targets/JOB.json",
    "tokenizer.json",
}
"""Paths of the API, files that are written or belong to a model or a machine, and placeholders."""
WIDTH = 120  # .editorconfig's max_line_length of Markdown
WRITTEN_BY_A_PROGRAM = {"bench/RESULTS.md"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_its_links_lead_to_files(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    missing = [link for link in links if not ((ROOT / document).parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_files_that_it_names_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+\.(?:py|sh|conf|md|json|jsonc|yml|yaml|toml|js|css|mjs|lock))`", text))
    assert {name for name in named - ELSEWHERE if f"/{name}" not in ENDINGS} == set()


@pytest.mark.parametrize("document", sorted(set(DOCUMENTS) - WRITTEN_BY_A_PROGRAM))
def test_its_lines_are_wrapped(document: str) -> None:
    """But for tables, code, and entries of an index, which are one line each."""
    text = (ROOT / document).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > WIDTH and not line.startswith(("|", "- ["))] == []
