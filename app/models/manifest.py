"""The manifest of a fetched folder: the size and sha256 of each file.

It is written last, so a folder that has one was complete and checked at that time.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.models.errors import DownloadFailed

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Checksum:
    """A file's checksum as its source gives it: a sha256, or for small files on a hub git's blob id, a sha1."""

    kind: Literal["sha256", "git"]
    value: str


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, origin: Mapping[str, str], checksums: Mapping[str, Checksum] | None = None) -> None:
    """Check every file, make it readable to the server's user, flush it to the disk, and write the manifest.

    With `checksums` the folder must hold exactly these files. A wrong file is removed, so that the next run fetches
    it anew. Raises DownloadFailed.
    """
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    expected = dict.fromkeys(paths) if checksums is None else checksums
    if expected.keys() != paths.keys():
        raise DownloadFailed(f"{folder} holds other files than expected: {sorted(expected.keys() ^ paths.keys())}")
    files = {}
    for name, path in paths.items():
        digest = sha256_of(path)
        _check(path, digest, expected[name])
        path.chmod(0o644)  # some writers leave 0600, and the server may run as another user
        files[name] = {"size": path.stat().st_size, "sha256": digest}
        _flush(path)
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"origin": dict(origin), "files": files}, indent=2) + "\n", encoding="utf-8")
    _flush(manifest)
    folder.chmod(0o755)


def is_complete(folder: Path) -> bool:
    """Whether every file of the folder's manifest is there in its size. Fast: no file but the manifest is read."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == entry["size"] for name, entry in files.items())
    except (OSError, ValueError, KeyError):
        return False


def source_of(folder: Path) -> str:
    """Where the folder's files came from, with their revision; empty for a folder that was not fetched."""
    try:
        return str(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["origin"]["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _check(path: Path, sha256: str, checksum: Checksum | None) -> None:
    if checksum is None:
        return
    actual = sha256 if checksum.kind == "sha256" else _git_blob_id(path)
    if actual != checksum.value:
        path.unlink()
        raise DownloadFailed(
            f"{path.name} is corrupt: its {checksum.kind} checksum is {actual}, the source says {checksum.value}. "
            "It was removed: run the command again"
        )


def _git_blob_id(path: Path) -> str:
    content = path.read_bytes()  # git-scm.com/book, "Git Objects": a header, then the content
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
