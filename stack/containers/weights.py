"""Where a container finds its model's files: in its image, in a volume, or in a folder of this machine."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from stack.config import ROOT, Config
from stack.protocol import StackError

GIB = 1024**3
VOLUME = "serving-models"
"""The volume that holds fetched models, whatever checkout fetched them; compose.gpu.yaml names it too."""
_INSIDE = Path("/weights")


@dataclass(frozen=True)
class Weights:
    """`variables` are compose's; `fetch`: the service `models` has to fetch the model first."""

    variables: dict[str, str] = field(default_factory=dict)
    fetch: bool = False


def is_folder(model: str) -> bool:
    """Whether the MODEL setting names a folder and no model of the catalogue."""
    return "/" in model or (ROOT / model).is_dir()


def of_folder(config: Config) -> Weights:
    """MODEL=/path: that folder, read-only. Raises StackError when a container could not read it."""
    folder = folder_of(config)
    root = _root(folder)
    inside = _INSIDE / root.name
    variables = {
        "WEIGHTS_MOUNT": f"{root}:{inside}",
        "MODEL_IN_CONTAINER": str(inside / folder.relative_to(root)),
        # On a CPU the weights are converted, and both copies exist for a moment; the page cache counts as well.
        "WEIGHTS_MEMORY": str(4 * GIB + 3 * size(folder)),
    }
    return Weights(variables)


def of_catalogue(config: Config, name: str) -> Weights:
    """A model by its name, for the GPU image: from this machine where it is complete, else from the volume.

    With MODELS_DIR it is fetched into that folder, by the user whom it belongs to. Raises StackError.
    """
    if (config.models_dir / name / "manifest.json").is_file():
        _refuse_unreadable(config.models_dir / name)
        return Weights({"MODELS_MOUNT": str(config.models_dir)})
    if not config.models_dir_given:
        return Weights({"FETCH_MODEL": name}, fetch=True)
    config.models_dir.mkdir(parents=True, exist_ok=True)
    owner = config.models_dir.stat()
    user = f"{owner.st_uid}:{owner.st_gid}"
    return Weights({"MODELS_MOUNT": str(config.models_dir), "MODELS_USER": user, "FETCH_MODEL": name}, fetch=True)


def size(folder: Path) -> int:
    """Bytes of a folder's weights."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def path_of(config: Config) -> Path:
    """Where MODEL's folder would be."""
    return (ROOT / Path(config.model).expanduser()).resolve()


def folder_of(config: Config) -> Path:
    """MODEL's folder. Raises StackError when there is none with a model's files, or a container could not read it."""
    folder = path_of(config)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise StackError(f"MODEL={config.model}: not a folder with a config.json and *.safetensors files.")
    _refuse_unreadable(folder)
    return folder


def _root(folder: Path) -> Path:
    """What has to be mounted so that the folder's links lead somewhere: a hub's cache links to its blobs."""
    targets = [os.path.realpath(file) for file in folder.iterdir()]
    root = Path(os.path.commonpath([str(folder), *targets]))
    if root == Path(root.anchor):
        raise StackError(
            f"{folder}: its links point to folders that have only / in common; copy the files into one folder."
        )
    return root


def _refuse_unreadable(folder: Path) -> None:
    """The user of a container owns nothing on this machine: it can read only what every user may read."""
    for path in (folder, *folder.iterdir()):
        if not path.exists():
            raise StackError(f"{path}: a broken link; fetch the model again.")
        mode = path.stat().st_mode
        if not mode & stat.S_IROTH or (stat.S_ISDIR(mode) and not mode & stat.S_IXOTH):
            raise StackError(f"{path}: the app's user in its container must read it: chmod -R o+rX {folder}")
