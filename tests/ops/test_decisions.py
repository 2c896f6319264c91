"""The decisions have one form, and their index lists each."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
DECISIONS = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
SECTIONS = ["Context", "Decision", "Rejected", "Figures", "Consequences", "Limits", "Tests"]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name)
def test_a_decision_has_the_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    number = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", path.name)
    assert number is not None
    assert text.startswith(f"# {number[1]}: ")
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert sections == [name for name in SECTIONS if name in sections], "the order of docs/decisions/README.md"
    assert sections[:2] == SECTIONS[:2], "Context and Decision are required"


def test_the_index_lists_each_decision_with_its_title() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^- \[(\d{4})\]\((.+)\): (.+)$", index, re.MULTILINE)
    titles = [path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for path in DECISIONS]
    assert sorted(listed) == [
        (title[:4], path.name, title[6:]) for path, title in zip(DECISIONS, titles, strict=True)
    ]
