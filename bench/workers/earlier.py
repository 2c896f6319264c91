"""The files of an earlier commit, to run its engine beside today's."""

import subprocess
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
    archive = subprocess.run(["git", "archive", commit], cwd=repository, check=False, capture_output=True)
    if archive.returncode != 0:
        raise Failed(f"git has no commit {commit}: fetch the whole history (git fetch --unshallow)")
    subprocess.run(["tar", "-x"], cwd=partly, input=archive.stdout, check=True)
    return partly.rename(folder)
