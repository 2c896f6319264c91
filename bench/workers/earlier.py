"""The files of an earlier commit, to run its engine beside today's."""

import subprocess
import tarfile
from pathlib import Path

from bench.errors import Failed
from stack.config import ROOT


def files_of(commit: str, repository: Path = ROOT) -> Path:
    """A folder with everything that the commit has. Raises Failed where the history does not reach back to it."""
    folder = repository / "var" / "bench" / "commits" / commit
    if folder.is_dir():
        return folder
    partly = folder.with_suffix(".part")
    partly.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        ["git", "archive", commit], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as git:
        try:
            with tarfile.open(fileobj=git.stdout, mode="r|") as archive:
                archive.extractall(partly, filter="data")
        except tarfile.ReadError:
            raise Failed(f"git has no commit {commit}: fetch the whole history (git fetch --unshallow)") from None
    return partly.rename(folder)
