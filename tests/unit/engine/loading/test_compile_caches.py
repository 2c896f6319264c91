"""Code that is compiled at run time has a folder that it can be written to and executed from, or the start says
what is missing."""

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from app.engine.loading import compile_caches as caches
from app.engine.loading.compile_caches import use_caches

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*caches.VARIABLES, "CC"):
        monkeypatch.setenv(name, "")  # so that what the code sets goes with the test
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name == "gcc" else None)
    return monkeypatch


@pytest.fixture(autouse=True)
def headers(environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "include"
    folder.mkdir()
    (folder / "Python.h").touch()
    environment.setattr(sysconfig, "get_path", lambda _name: str(folder))
    return folder


def test_both_libraries_build_below_the_folder_for_this_user_alone(tmp_path: Path) -> None:
    assert use_caches(tmp_path / "var" / "cache") == []
    for variable, name in caches.VARIABLES.items():
        place = tmp_path / "var" / "cache" / name
        assert os.environ[variable] == str(place)
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert list(place.iterdir()) == [], "the trial is gone"
    assert os.environ["CC"] == "/usr/bin/gcc"


def test_an_operators_own_folder_stays(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TRITON_CACHE_DIR", str(tmp_path / "mine"))
    assert use_caches(tmp_path / "cache") == []
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()  # also for root, whom permissions do not stop
    missing = use_caches(tmp_path / "cache")
    assert len(missing) == 2
    assert f"{tmp_path}/cache/triton cannot be written to" in missing[0]
    assert "CACHE_DIR" in missing[0]


NOEXEC = 'mount -t tmpfs -o noexec tmpfs "$1" && exec "$2" -c "$3" "$1"'
PROGRAM = """
import sys
from pathlib import Path
from app.engine.loading.compile_caches import use_caches
print(*use_caches(Path(sys.argv[1])), sep="\\n")
"""


def test_a_folder_mounted_noexec_is_named(tmp_path: Path) -> None:
    """A real mount, in a namespace of its own."""
    alone = ["unshare", "--map-root-user", "--mount"]
    command = [*alone, "sh", "-c", NOEXEC, "sh", str(tmp_path), sys.executable, PROGRAM]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=60)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no mount of our own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is it mounted noexec?") == 2


def test_a_machine_without_compiler_or_headers_is_told_what_to_install(
    tmp_path: Path, environment: pytest.MonkeyPatch, headers: Path
) -> None:
    environment.setattr(shutil, "which", lambda _name: None)
    (headers / "Python.h").unlink()
    missing = use_caches(tmp_path / "cache")
    assert [line.partition(":")[0] for line in missing] == [
        "no C compiler is installed (gcc, clang or cc; CC names another)",
        "Python's headers are not installed",
    ]
    environment.setenv("CC", "icx -O2")
    assert "CC=icx -O2 is not installed" in use_caches(tmp_path / "cache")
