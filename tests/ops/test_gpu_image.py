"""The GPU image, built and started as far as that goes without a GPU: all but CUDA's libraries.

Its torch is the CPU build here, which saves gigabytes; the test marked `long` builds it as a GPU host would.
"""

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.gpu_image import built, image_of

STUB = """
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "stub", NULL, -1, methods};
PyMODINIT_FUNC PyInit_stub(void) { return PyModule_Create(&module); }
"""
# What Triton does for its driver: a module in C, compiled against Python's headers into the cache, and imported.
COMPILE = """
import os, shutil, subprocess, sys, sysconfig
from pathlib import Path
folder = Path(os.environ["CACHE_DIR"])
(folder / "stub.c").write_text(sys.stdin.read())
cc = os.environ.get("CC") or shutil.which("gcc")
command = [cc, "stub.c", "-O3", "-shared", "-fPIC", "-o", "stub.so", "-I", sysconfig.get_paths()["include"]]
subprocess.run(command, cwd=folder, check=True)
sys.path.insert(0, str(folder))
import stub
print(stub.answer())
"""
AGAIN = "import os, sys; sys.path.insert(0, os.environ['CACHE_DIR']); import stub; print(stub.answer())"
# Triton's own, with a library that has the names of the driver's functions, for there is no driver here.
TRITON = r"""
import os, re, subprocess
from pathlib import Path
from triton.backends.nvidia import driver
folder = Path(os.environ["CACHE_DIR"])
names = set(re.findall(r"\bcu[A-Z]\w*(?=\()", Path(driver.__file__).with_name("driver.c").read_text()))
(folder / "cuda.c").write_text("".join(f"void {name}(void) {{}}\n" for name in names))
library = ["gcc", "-shared", "-fPIC", "cuda.c", "-Wl,-soname,libcuda.so.1", "-o", "libcuda.so.1"]
subprocess.run(library, cwd=folder, check=True)
print(driver.CudaUtils().launch)
"""


@pytest.fixture(scope="module")
def image() -> str:
    return image_of(built("cpu"))


@pytest.fixture
def cache() -> Iterator[str]:
    """A volume, as compose makes it."""
    name = subprocess.run(["docker", "volume", "create"], check=True, capture_output=True, text=True).stdout.strip()
    yield name
    subprocess.run(["docker", "volume", "rm", "--force", name], check=True, capture_output=True)


def _run(
    image: str, cache: str, *command: str, given: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """In a container with the bounds that compose.yaml sets."""
    bounds = ["--read-only", "--cap-drop", "ALL", "--network", "none", "--tmpfs", "/tmp:mode=1777"]  # noqa: S108  # the container's
    mounts = ["--volume", f"{cache}:/var/cache/app"]
    settings = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
    whole = ["docker", "run", "--rm", "--interactive", *bounds, *mounts, *settings, image, *command]
    return subprocess.run(whole, input=given, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_what_compiles_at_run_time_compiles_and_is_there_after_a_restart(image: str, cache: str) -> None:
    done = _run(image, cache, "python", "-c", COMPILE, given=STUB)
    assert done.stdout.strip() == "42", done.stderr
    again = _run(image, cache, "python", "-c", AGAIN)
    assert again.stdout.strip() == "42", again.stderr


@pytest.mark.docker
@pytest.mark.timeout(1800)
def test_without_a_gpu_the_start_ends_with_a_sentence(image: str, cache: str) -> None:
    done = _run(image, cache, "python", "-m", "app", "gpus", "--json")
    assert '"gpus": []' in done.stdout, done.stderr
    done = _run(image, cache, "gunicorn", "--config", "docker/gunicorn.conf.py")
    assert done.returncode != 0
    assert "no GPU is visible" in done.stdout + done.stderr


@pytest.mark.docker
@pytest.mark.long
@pytest.mark.timeout(3600)
def test_with_cudas_libraries_tritons_host_stub_compiles(cache: str) -> None:
    image = image_of(built("cuda"))
    done = _run(image, cache, "python", "-c", "import torch; print(torch.version.cuda)")
    assert done.stdout.startswith("13."), done.stdout + done.stderr
    places = dict.fromkeys(("TRITON_LIBCUDA_PATH", "LD_LIBRARY_PATH"), "/var/cache/app")
    done = _run(image, cache, "python", "-c", TRITON, TRITON_CACHE_DIR="/var/cache/app/triton", **places)
    assert "function launch" in done.stdout, done.stderr
