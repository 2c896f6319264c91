"""docs/architecture.md is true: its tables are import-linter's contracts, and it names each module and file."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

import grimp
import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
    "importlinter"
]["contracts"]
LISTED = {
    "app": ".py",
    "stack": ".py",
    "app/api/playground/page": "",
    "nginx": "",
    "docker": "",
    "requirements": "",
    "monitoring": "",
}
"""Folders whose files are listed, and how the names of those files end."""
RUNBOOKS = "monitoring/runbooks/"  # named after their alerts, which tests/ops/test_monitoring.py holds
INSIDE = {
    contract["containers"][0]: contract["layers"]
    for contract in CONTRACTS
    if contract["type"] == "layers" and contract["containers"] != ["app"]
}


def _section(heading: str) -> str:
    """Up to the next heading of its level, or of a higher one."""
    marks, _ = heading.split(" ", maxsplit=1)
    after = DOCUMENT.split(f"{heading}\n", maxsplit=1)[1]
    return re.split(rf"^#{{2,{len(marks)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def _names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _rows(heading: str) -> list[list[str]]:
    """The cells of the section's table, without its head."""
    lines = [line for line in _section(heading).split("\n###")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def _members(layer: str) -> list[str]:
    return re.split(r" [|:] ", layer)


def _import_each_other(layer: str) -> str:
    """What the table says of the members of one layer."""
    if " | " in layer:
        return "no"
    return "yes" if " : " in layer else ""


def _forbidden() -> Iterator[tuple[str, str]]:
    """Every (importer, imported) among the app's packages that a contract forbids."""
    for contract in CONTRACTS:
        if contract["type"] == "forbidden":
            sources, targets = contract["source_modules"], contract["forbidden_modules"]
            yield from product((name[4:] for name in sources), (name[4:] for name in targets))
        elif contract["type"] == "layers" and contract["containers"] == ["app"]:
            layers = [_members(layer) for layer in contract["layers"]]
            for members in layers:
                yield from ((one, other) for one, other in product(members, members) if one != other)
            for above, below in combinations(layers, 2):
                yield from product(below, above)


def _bare(names: list[str]) -> set[str]:
    return {name.removeprefix("app.") for name in names}


def _packages() -> dict[str, list[str]]:
    """Each package of the table with the rest of its row."""
    return {name: row[1:] for row in _rows("## Packages") for name in _names(row[0])}


def test_the_table_of_packages_is_the_linters_contracts() -> None:
    packages, forbidden = _packages(), set(_forbidden())
    for name, (_, _, allowed) in packages.items():
        below = {other for other in packages if other != name and (name, other) not in forbidden}
        if not allowed.startswith("everything below"):
            assert set(_names(allowed)) == below, name
        else:
            assert below == set(list(packages)[list(packages).index(name) + 1 :]), name


def test_the_narrower_rules_are_the_other_contracts() -> None:
    packages = set(_packages())
    documented = []
    for importer, imported, exceptions, _ in _rows("### Narrower rules"):
        importers = set(_names(importer))
        if importer.startswith("every package but"):
            importers = packages - importers
        documented.append((importers, set(_names(imported)), set(_names(exceptions))))
    assert documented == [
        (
            _bare(contract["source_modules"]),
            _bare(contract["forbidden_modules"]),
            _bare([ignored.split(" -> ")[0] for ignored in contract.get("ignore_imports", [])]),
        )
        for contract in CONTRACTS
        if contract["type"] == "forbidden"
        and not packages.issuperset(_bare(contract["source_modules"] + contract["forbidden_modules"]))
    ]


@pytest.mark.parametrize("package", INSIDE)
def test_the_table_inside_a_package_is_its_contract(package: str) -> None:
    rows = _rows(f"### Inside `{package.replace('.', '/')}`")
    documented = [(_names(row[0]), row[2]) for row in rows]
    assert documented == [(_members(layer), _import_each_other(layer)) for layer in INSIDE[package]]


def test_public_modules_are_those_that_other_packages_import() -> None:
    graph = grimp.build_graph("app", cache_dir=None)  # its cache misses changes within one second
    packages = _packages()
    assert {name.removeprefix("app.") for name in graph.find_children("app")} == set(packages)
    imported: dict[str, set[str]] = {name: set() for name in packages}
    for importer in graph.modules:
        for module in graph.find_modules_directly_imported_by(importer):
            home = module.split(".")[1]
            if importer.split(".")[1:2] not in ([], [home]):
                imported[home].add(module.removeprefix(f"app.{home}.").removeprefix("app."))
    documented = {name: set(_names(public)) for name, (_, public, _) in packages.items()}
    assert documented == imported


def test_public_modules_of_the_stack_are_those_that_its_other_rows_import() -> None:
    graph = grimp.build_graph("stack", cache_dir=None)
    imported = {
        module.removeprefix("stack.")
        for importer in graph.modules
        for module in graph.find_modules_directly_imported_by(importer)
        if importer.split(".")[1] != module.split(".")[1]
    }
    assert {name for row in _rows("### Inside `stack`") for name in _names(row[3])} == imported


@pytest.mark.parametrize("folder", LISTED)
def test_each_module_is_named_once(folder: str) -> None:
    all_named = re.findall(rf"^- `({folder}/[^`]+)`: \S", _section("## Modules"), re.MULTILINE)
    named = [name for name in all_named if name.endswith(LISTED[folder])]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    there = set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines())
    there = {name for name in there if name.endswith(LISTED[folder]) and (ROOT / name).is_file()}
    there = {name for name in there if not name.endswith("/__init__.py") and not name.startswith(RUNBOOKS)}
    assert there
    assert there - set(named) == set(), "not in docs/architecture.md"
    assert set(named) - there == set(), "no longer in the tree"
    assert len(named) == len(set(named))


def test_the_pages_folders_import_one_way() -> None:
    may: dict[str, set[str]] = {"conversation": {"markup", "server", "browser"}, "browser": set()}
    scripts = ROOT / "app" / "api" / "playground" / "page" / "js"
    for folder in (path for path in scripts.iterdir() if path.is_dir()):
        text = "".join(path.read_text(encoding="utf-8") for path in folder.iterdir())
        imported = set(re.findall(r'from "\.\./([\w-]+)/', text))
        assert imported <= may.get(folder.name, {"browser"}), folder.name
