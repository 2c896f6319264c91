"""What a commit has to pass: the hooks of .pre-commit-config.yaml, which `make lint` runs over the whole tree."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("length", "passes"), [(72, True), (73, False)])
def test_a_subject_has_at_most_72_characters(length: int, passes: bool, tmp_path: Path) -> None:
    message = tmp_path / "message"
    message.write_text(f"{'x' * length}\n\n{'A body may have longer lines. ' * 4}\n", encoding="utf-8")
    # With --all-files pre-commit leaves what is not staged where it is.
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--hook-stage", "commit-msg"]
    done = subprocess.run(
        [*command, "--commit-msg-filename", message], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) is passes, done.stdout


@pytest.mark.parametrize(
    ("name", "code", "complaint"),
    [
        ("js/x.js", "export const seen = undeclared;\n", "noUndeclaredVariables"),
        ("js/x.js", "export const  seen = 1;\n", "format"),
        ("js/x.js", "export const seen = 1;\n", ""),
        ("css/x.css", "a {\n  colour: red;\n}\n", "noUnknownProperty"),
    ],
)
def test_the_page_is_linted(name: str, code: str, complaint: str, tmp_path: Path) -> None:
    """In a folder with our configuration and this one file."""
    (tmp_path / "biome.jsonc").write_bytes((ROOT / "biome.jsonc").read_bytes())
    file = tmp_path / "app" / "api" / "playground" / "page" / name
    file.parent.mkdir(parents=True)
    file.write_text(code, encoding="utf-8")
    command = [str(ROOT / "requirements" / "biome.sh"), sys.executable, "check", "--error-on-warnings"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert (done.returncode == 0) is (complaint == ""), said
    assert complaint in said
