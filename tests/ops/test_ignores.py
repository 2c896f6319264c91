"""An ignored rule has its reason beside it: `# noqa: RULE  # reason`."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DIRECTIVE = re.compile(
    r"#\s*(noqa(?:: ?[A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*)?|type: ?ignore(?:\[[^]]*\])?|fmt: ?(?:skip|off))"
)


def _without_reason(source: str) -> Iterator[int]:
    """Lines. A reason counts for the lines right below it that ignore the same."""
    covered: dict[int, list[str]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        ignored = DIRECTIVE.findall(token.string) if token.type == tokenize.COMMENT else []
        line = token.start[0]
        if ignored and (re.search("[a-z]", DIRECTIVE.sub("", token.string)) or covered.get(line - 1) == ignored):
            covered[line] = ignored
        elif ignored:
            yield line


@pytest.mark.parametrize("folder", ["app", "stack", "bench", "tests"])
def test_every_ignored_rule_has_its_reason(folder: str) -> None:
    sources = {path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")}
    assert [f"{path}:{line}" for path, source in sources.items() for line in _without_reason(source)] == []


@pytest.mark.parametrize(
    ("source", "without"),
    [
        ("import a  # noqa: F401\n", [1]),
        ("import a  # noqa: F401  # it registers itself\n", []),
        ("f()  # noqa: S603  # type: ignore[misc]\n", [1]),
        (
            "f(  # noqa: N803  # its names, here and below\n    A,  # noqa: N803\n    B,  # noqa: E501\n)\n",
            [3],
        ),
        ("x = [1]  # fmt: skip\n", [1]),
        ('x = "# noqa"\n', []),
    ],
)
def test_which_lines_lack_one(source: str, without: list[int]) -> None:
    assert list(_without_reason(source)) == without
