"""What the page takes from npm: the bytes that were recorded, the packages that are locked, their licences beside."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.node import NODE

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "app" / "api" / "playground" / "vendor"
PAGE = ROOT / "app" / "api" / "playground" / "page"
MODULES = sorted((PAGE / "js").rglob("*.js"))
LOCK = json.loads((ROOT / "requirements" / "page" / "package-lock.json").read_text(encoding="utf-8"))
UNREACHABLE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")


def _files(folder: Path) -> dict[str, str]:
    """Name to checksum, but for the list of checksums itself."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }


def test_the_files_are_those_that_were_recorded() -> None:
    lines = (VENDOR / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    recorded = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    assert _files(VENDOR) == recorded


@pytest.mark.parametrize(
    "folder", ["requirements/page", "requirements/lint", "tests/e2e/node", "tests/pictures/node"]
)
def test_the_lock_pins_everything_and_names_no_registry(folder: str) -> None:
    lock = json.loads((ROOT / folder / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    for name, entry in packages.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert "resolved" not in entry, name
    package = json.loads((ROOT / folder / "package.json").read_text(encoding="utf-8"))
    wanted = package.get("dependencies") or package["devDependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_every_package_that_is_served_has_its_licence_beside_it() -> None:
    """@types is not served, and argparse belongs to markdown-it's command line alone."""
    names = [name.removeprefix("node_modules/") for name in LOCK["packages"] if name]
    served = {name.removeprefix("@").replace("/", "-") for name in names}
    kept = {path.stem for path in (VENDOR / "licences").iterdir()}
    assert kept == served - {"types-trusted-types", "argparse"}


def test_the_locked_packages_give_these_files(tmp_path: Path) -> None:
    command = [str(ROOT / "requirements" / "vendor.sh"), sys.executable, str(tmp_path / "vendor")]
    environment = {**os.environ, "npm_config_fetch_retries": "0", "npm_config_fetch_timeout": "20000"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0 and any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip("npm reaches no registry: the recorded checksums count alone")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _files(tmp_path / "vendor") == _files(VENDOR)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_node_can_parse_every_module(module: Path, tmp_path: Path) -> None:
    copy = tmp_path / f"{module.stem}.mjs"  # the extension says that it is a module
    copy.write_bytes(module.read_bytes())
    done = subprocess.run([NODE, "--check", copy], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_script_makes_html_of_a_string() -> None:
    """Trusted Types refuse it in the browser; here it is seen before anybody opens the page."""
    sinks = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc")
    for module in MODULES:
        text = module.read_text(encoding="utf-8")
        assert not [sink for sink in sinks if sink in text], module.name
    document = (PAGE / "index.html").read_text(encoding="utf-8")
    assert " style=" not in document
    assert not re.search(r"\son[a-z]+=", document)
