"""Lists and downloads repositories of the public hubs, with the hubs' own clients.

Only data is downloaded, weights as safetensors and text: never code, whatever else the repository has. An interrupted
download continues with a range request, in this run and in the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, RepoFile, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, missing in its __all__
from modelscope_hub import HubApi, HubError

from app.models.catalogue import Hub, HubSource
from app.models.errors import DownloadFailed, HubUnreachable
from app.models.manifest import Checksum

WANTED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model", "LICENSE*"]
_MODELSCOPE_REVISION = "master"
"""The client takes branches and tags only, and this repository has no tag: its files are pinned by checksums."""
_FAILURES = (HfHubHTTPError, httpx2.HTTPError, HubError, OSError)
"""What the two clients raise; requests' errors are OSErrors."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    path: str
    size: int
    checksum: Checksum


def listing(hub: Hub, source: HubSource) -> list[RemoteFile]:
    """The wanted files of the repository, with the hub's own checksums. Raises HubUnreachable."""
    try:
        files = _huggingface_files(source) if hub is Hub.HUGGINGFACE else _modelscope_files(source)
    except _FAILURES as error:
        raise HubUnreachable(f"{hub.value} did not list {source.repository}: {_say(error)}") from error
    if not any(file.path.endswith(".safetensors") for file in files):
        raise HubUnreachable(f"{hub.value} lists no safetensors in {source.repository}")
    return files


def download(hub: Hub, source: HubSource, files: Sequence[RemoteFile], folder: Path) -> None:
    """The files into `folder`. Files that are there already stay.

    Each client shows bars of its own unless `TQDM_DISABLE` is set before it is imported.

    Raises DownloadFailed.
    """
    try:
        if hub is Hub.HUGGINGFACE:
            for file in files:
                _huggingface_download(source, file, folder / file.path)
        else:
            HubApi().download_repo(
                source.repository,
                "model",
                revision=_MODELSCOPE_REVISION,
                local_dir=folder,
                allow_patterns=[file.path for file in files],
            )
    except _FAILURES as error:
        raise DownloadFailed(
            f"the download from {hub.value} was interrupted: {_say(error)}. What arrived is kept: run it again"
        ) from error


def _huggingface_files(source: HubSource) -> list[RemoteFile]:
    entries = HfApi().list_repo_tree(source.repository, recursive=True, revision=source.revision)
    return [
        RemoteFile(
            entry.path,
            entry.size,
            Checksum("sha256", entry.lfs.sha256) if entry.lfs else Checksum("git", entry.blob_id),
        )
        for entry in entries
        if isinstance(entry, RepoFile) and _wanted(entry.path)
    ]


def _huggingface_download(source: HubSource, file: RemoteFile, target: Path) -> None:
    """Without `snapshot_download`, which deletes the unfinished part of a file: these files have 8 GB each."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.incomplete")
    if unfinished.exists() and unfinished.stat().st_size > file.size:
        unfinished.unlink()
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    url = hf_hub_url(source.repository, file.path, revision=source.revision)
    with unfinished.open("ab") as output:
        http_get(
            url,
            output,
            resume_size=output.tell(),
            headers=headers,
            expected_size=file.size,
            displayed_filename=file.path,
        )
    unfinished.rename(target)


def _modelscope_files(source: HubSource) -> list[RemoteFile]:
    entries = HubApi().list_repo_files(source.repository, "model", revision=_MODELSCOPE_REVISION)
    wanted = [entry for entry in entries if not entry.is_dir and _wanted(entry.path)]
    without = [entry.path for entry in wanted if not entry.sha256]
    if without:
        raise HubUnreachable(f"modelscope gives no checksum for {', '.join(without)}")
    return [RemoteFile(entry.path, entry.size, Checksum("sha256", str(entry.sha256))) for entry in wanted]


def _wanted(path: str) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in WANTED)


def _say(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
