"""A kustomization's objects without kubectl: the part of Kustomize that deploy/ uses. Where kubectl is installed,
tests compare them with what it builds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

Object = dict[str, Any]

_MERGED_BY = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
"""Lists whose items a patch changes one by one, and by what they are known. It replaces all others."""


def kustomization(folder: Path) -> Object:
    return dict(yaml.safe_load((folder / "kustomization.yaml").read_text()))


def objects(folder: Path) -> list[Object]:
    """What the kustomization lists, with its patches; of ConfigMaps without the digests in their names."""
    listed = kustomization(folder)
    found = {_known_by(each): each for each in _resources(folder, listed)}
    for patch in listed.get("patches", []):
        change = yaml.safe_load((folder / patch["path"]).read_text())
        found[_known_by(change)] = _merged(found[_known_by(change)], change)
    for each in listed.get("configMapGenerator", []):
        data = {Path(file).name: (folder / file).read_text() for file in each.get("files", [])}
        for file in each.get("envs", []):
            data |= {name: str(value) for name, value in dotenv_values(folder / file).items()}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": each["name"]}, "data": data}
        merges = each.get("behavior") == "merge"
        found[_known_by(made)] = _merged(found[_known_by(made)], made) if merges else made
    return list(found.values())


def _resources(folder: Path, listed: Object) -> Iterator[Object]:
    for name in listed.get("resources", []):
        path = (folder / name).resolve()
        yield from objects(path) if path.is_dir() else yaml.safe_load_all(path.read_text())


def _known_by(each: Object) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def _merged(base: Object, patch: Object) -> Object:
    """A strategic merge: dictionaries are merged, null removes, items of some lists are merged, added or removed."""
    merged = dict(base)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = _merged(base.get(name, {}), value)
        elif name in _MERGED_BY:
            merged[name] = _merged_items(base.get(name, []), value, _MERGED_BY[name])
        else:
            merged[name] = value
    return merged


def _merged_items(base: list[Object], patch: list[Object], key: str) -> list[Object]:
    items = {each[key]: each for each in base}
    for change in patch:
        if change.get("$patch") == "delete":
            del items[change[key]]
        else:
            items[change[key]] = _merged(items.get(change[key], {}), change)
    return list(items.values())
