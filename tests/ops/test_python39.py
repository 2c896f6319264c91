"""What runs on the host's own Python runs on 3.9, and needs nothing but its standard library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from stack.config import ROOT

HOST = sorted((ROOT / "stack").rglob("*.py"))


@pytest.mark.parametrize("path", HOST, ids=lambda path: str(path.relative_to(ROOT)))
def test_its_syntax_and_imports_are_those_of_python_39(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots = {name.split(".")[0] for name in imported}
    assert roots <= set(sys.stdlib_module_names) | {"stack"}


def test_it_calls_nothing_that_python_39_lacks() -> None:
    """vermin knows since when each module, function and argument of the standard library exists."""
    vermin = [
        str(Path(sys.executable).with_name("vermin")),
        "--target=3.9-",
        "--no-tips",
        "--violations",
        *map(str, HOST),
    ]
    done = subprocess.run(vermin, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
