"""requirements/install.sh and its helpers, run by real pip against package indexes on loopback."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.config import install_settings
from tests.support.packages import Index, served, sha256, wheel

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
VERSION = re.findall(r'"torch==([^"]+)"', (ROOT / "pyproject.toml").read_text())[0]
FLASH = re.findall(r'"flash-attn==([^"]+)"', (ROOT / "pyproject.toml").read_text())[0]
ABSENT = "http://127.0.0.1:9/simple"


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with pip alone."""
    folder = tmp_path_factory.mktemp("blank")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder


@pytest.fixture
def python(blank: Path) -> Iterator[Path]:
    """Its Python; what a test installs is gone afterwards."""
    interpreter = blank / "bin" / "python"
    packages = _packages(interpreter)
    before = set(packages.iterdir())
    yield interpreter
    for path in set(packages.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (blank / ".installed-runtime").unlink(missing_ok=True)


def _packages(python: Path) -> Path:
    (packages,) = python.parents[1].glob("lib/python3*/site-packages")
    return packages


@pytest.fixture
def pypi(tmp_path: Path) -> Iterator[Index]:
    """A plain package index: torch in its default build, and what flash-attn needs."""
    folder = tmp_path / "pypi"
    folder.mkdir()
    wheel(folder, "torch", VERSION, "version = 'cuda'")
    wheel(folder, "einops", "0.8.1")
    with served(folder) as index:
        yield index


@pytest.fixture
def pytorch(tmp_path: Path) -> Iterator[Index]:
    """PyTorch's own index, for one build; the wheels are the test's to add."""
    folder = tmp_path / "pytorch"
    folder.mkdir()
    with served(folder) as index:
        yield index


@pytest.fixture
def silent() -> Iterator[tuple[str, list[socket.socket]]]:
    """An index that takes connections and never answers: its address, and the connections so far."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:  # the test is over
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/simple", taken
        server.shutdown(socket.SHUT_RDWR)
    for connection in taken:
        connection.close()


def _run(script: str | Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Without this machine's own pip settings, unless a test names some."""
    ours = ("PIP_", "TORCH_", "FLASH_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours) or name == "PIP_CERT"}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}
    command = [str(REQUIREMENTS / script), *map(str, arguments)]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=False, timeout=800)


def _installed(python: Path, package: str = "torch") -> str | None:
    found = [
        info.stem.partition("-")[2] for info in _packages(python).glob(f"{package.replace('-', '_')}-*.dist-info")
    ]
    assert len(found) <= 1
    return found[0] if found else None


def test_without_a_gpu_pytorchs_cpu_wheel_is_preferred(python: Path, pypi: Index, pytorch: Index) -> None:
    wheel(pytorch.folder, "torch", f"{VERSION}+cpu")
    done = _run("torch.sh", python, "cpu", PIP_INDEX_URL=pypi.url, TORCH_CPU_INDEX=pytorch.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _installed(python) == f"{VERSION}+cpu"


def test_an_index_that_offers_no_fitting_wheel_is_no_obstacle(python: Path, pypi: Index, pytorch: Index) -> None:
    wheel(pytorch.folder, "torch", "1.0.0+cpu")
    done = _run("torch.sh", python, "cpu", PIP_INDEX_URL=pypi.url, TORCH_CPU_INDEX=pytorch.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _installed(python) == VERSION
    assert "there is no CPU build" in done.stdout


def test_an_index_that_never_answers_is_asked_once(
    python: Path, pypi: Index, silent: tuple[str, list[socket.socket]]
) -> None:
    address, taken = silent
    done = _run("torch.sh", python, "cpu", PIP_INDEX_URL=pypi.url, TORCH_CPU_INDEX=address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _installed(python) == VERSION
    assert len(taken) == 1, "each further question costs its whole time limit"


def test_an_empty_setting_turns_the_question_off(python: Path, pypi: Index, pytorch: Index) -> None:
    wheel(pytorch.folder, "torch", f"{VERSION}+cpu")
    done = _run("torch.sh", python, "cpu", PIP_INDEX_URL=pypi.url, TORCH_CPU_INDEX="")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _installed(python) == VERSION
    assert pytorch.asked == []


def test_a_cpu_wheel_in_a_folder_makes_the_question_needless(
    python: Path, pypi: Index, silent: tuple[str, list[socket.socket]], tmp_path: Path
) -> None:
    address, taken = silent
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", "torch", f"{VERSION}+cpu")
    folder = str(tmp_path / "wheels")
    done = _run("torch.sh", python, "cpu", PIP_INDEX_URL=pypi.url, PIP_FIND_LINKS=folder, TORCH_CPU_INDEX=address)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _installed(python) == f"{VERSION}+cpu"
    assert taken == []


def test_an_old_driver_gets_the_cuda_12_wheel(python: Path, pypi: Index, pytorch: Index) -> None:
    wheel(pytorch.folder, "torch", f"{VERSION}+cu126")
    done = _run("torch.sh", python, "cu126", PIP_INDEX_URL=pypi.url, TORCH_CUDA_INDEX=pytorch.url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _installed(python) == f"{VERSION}+cu126"


def test_an_old_driver_gets_no_other_build(python: Path, pypi: Index) -> None:
    done = _run("torch.sh", python, "cu126", PIP_INDEX_URL=pypi.url, PIP_RETRIES="0", TORCH_CUDA_INDEX=ABSENT)
    assert done.returncode != 0
    assert f"{ABSENT} did not answer (Connection refused)" in done.stderr
    assert "Update the driver" not in done.stderr, "that would not help"
    assert _installed(python) is None


def test_an_index_without_the_cuda_12_wheel_is_told_from_a_silent_one(
    python: Path, pypi: Index, pytorch: Index
) -> None:
    wheel(pytorch.folder, "torch", f"{VERSION}+cpu")
    done = _run("torch.sh", python, "cu126", PIP_INDEX_URL=pypi.url, TORCH_CUDA_INDEX=pytorch.url)
    assert done.returncode != 0
    assert f"{pytorch.url} does not offer it for this Python. Update the driver to 580" in done.stderr
    done = _run("torch.sh", python, "cu126", PIP_INDEX_URL=pypi.url, TORCH_CUDA_INDEX=f"{pytorch.url}/nowhere")
    assert "nowhere does not offer it" in done.stderr, "an answer of 404 is an answer"


def test_a_silent_index_of_the_cuda_12_wheel_is_named(
    python: Path, pypi: Index, silent: tuple[str, list[socket.socket]]
) -> None:
    address, _ = silent
    patience = {"PIP_RETRIES": "0", "PIP_TIMEOUT": "1"}
    done = _run("torch.sh", python, "cu126", PIP_INDEX_URL=pypi.url, TORCH_CUDA_INDEX=address, **patience)
    assert done.returncode != 0
    assert f"{address} did not answer (Read timed out)" in done.stderr


def test_a_broken_cuda_12_wheel_is_no_matter_of_the_driver(python: Path, pypi: Index, pytorch: Index) -> None:
    wheel(pytorch.folder, "torch", f"{VERSION}+cu126").write_bytes(b"no archive")
    done = _run("torch.sh", python, "cu126", PIP_INDEX_URL=pypi.url, TORCH_CUDA_INDEX=pytorch.url)
    assert done.returncode != 0
    assert f"{pytorch.url} offers it, and pip's message above says what went wrong" in done.stderr
    assert "Update the driver" not in done.stderr


def test_a_new_driver_gets_the_default_build_beside_a_folder_of_cpu_wheels(
    python: Path, pypi: Index, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels", "torch", f"{VERSION}+cpu")
    done = _run("torch.sh", python, "cuda", PIP_INDEX_URL=pypi.url, PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert _installed(python) == VERSION


PLAIN = {"PIP_INDEX_URL": os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple"), "PIP_DRY_RUN": "1"}
ARM = " ".join(f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)) + " manylinux2014_aarch64"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_from_a_plain_index_pip_takes_what_there_is(python: Path) -> None:
    """The real index, and nothing configured; where PyTorch's own is out of reach, the build with CUDA."""
    done = _run("torch.sh", python, "cpu", **PLAIN, PIP_VERBOSE="1", PIP_NO_DEPS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"Would install .*\btorch-{re.escape(VERSION)}(\+cpu)?\b", done.stdout)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_cpu_image_resolves_on_arm64(python: Path, tmp_path: Path) -> None:
    """Debian 12 has glibc 2.36: every package of the lock has a wheel for it, with the locked checksum."""
    platform = {"PIP_PLATFORM": ARM, "PIP_ONLY_BINARY": ":all:", "PIP_TARGET": str(tmp_path), "PIP_NO_DEPS": "1"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name == "PIP_CERT"}
    clean |= {"PIP_CONFIG_FILE": os.devnull} | PLAIN | platform
    lock = ["--require-hashes", "--requirement", str(REQUIREMENTS / "runtime.lock")]
    for wanted in (lock, [f"torch=={VERSION}"]):
        command = [str(python), "-m", "pip", "install", *wanted]
        done = subprocess.run(command, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Would install" in done.stdout


@pytest.mark.parametrize(
    ("smi", "build"),
    [
        (("580.65.06", "8.6"), "cuda"),
        (("575.51.03", "8.6"), "cu126"),
        (("580.65.06", "7.0"), "cu126"),  # Volta: the build for CUDA 13 has no kernels for it
        (("580.65.06", "7.5"), "cuda"),
        (("570.10.01", "12.0"), "cuda"),  # Blackwell: the build for CUDA 12.6 has none
        ("echo 'No devices'; exit 6", "cpu"),
        ("", "cpu"),
    ],
)
def test_the_driver_and_the_cards_decide_the_build(smi: str | tuple[str, str], build: str, tmp_path: Path) -> None:
    if isinstance(smi, tuple):
        smi = f"case $1 in *=driver_version) echo {smi[0]} ;; *) printf '8.9\\n{smi[1]}\\n' ;; esac"
    assert _gpus_say("build", smi, tmp_path) == build


@pytest.mark.parametrize(
    ("capabilities", "archs"), [("8.6 8.9", "80"), ("9.0 8.0", "80;90"), ("10.3 12.0", "100;120"), ("7.5", "")]
)
def test_flash_attention_is_compiled_for_the_gpus_that_are_there(
    capabilities: str, archs: str, tmp_path: Path
) -> None:
    assert _gpus_say("archs", f"printf '%s\\n' {capabilities}", tmp_path) == archs


def _gpus_say(what: str, smi: str, folder: Path) -> str:
    _program(folder / "bin", "nvidia-smi", smi)
    done = _run("gpus.sh", what, PATH=f"{folder / 'bin'}:{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def project(tmp_path: Path, pypi: Index) -> Path:
    """install.sh with a lock of one small package."""
    folder = tmp_path / "project"
    shutil.copytree(REQUIREMENTS, folder / "requirements")
    shutil.copy(ROOT / "pyproject.toml", folder)
    package = wheel(pypi.folder, "small", "1.0")
    lock = folder / "requirements" / "runtime.lock"
    lock.write_text(f"small==1.0 --hash=sha256:{sha256(package)}\n")
    return folder


def test_the_install_says_which_torch_it_got_and_how_large_it_is(
    python: Path, pypi: Index, pytorch: Index, project: Path
) -> None:
    wheel(pytorch.folder, "torch", f"{VERSION}+cpu")
    settings = {"PIP_INDEX_URL": pypi.url, "TORCH_CPU_INDEX": pytorch.url, "TORCH_BUILD": "cpu"}
    install = project / "requirements" / "install.sh"
    done = _run(install, python, "runtime", **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"torch {re.escape(VERSION)}\+cpu is installed: \d+ MB", done.stdout)
    asked = len(pypi.asked)
    assert _run(install, python, "runtime", **settings).stdout == ""
    assert len(pypi.asked) == asked, "what is installed was asked for again"


def test_another_driver_installs_another_torch(python: Path, pypi: Index, pytorch: Index, project: Path) -> None:
    for build in ("cpu", "cu126"):
        wheel(pytorch.folder, "torch", f"{VERSION}+{build}")
    settings = {"PIP_INDEX_URL": pypi.url, "TORCH_CPU_INDEX": pytorch.url, "TORCH_CUDA_INDEX": pytorch.url}
    for build in ("cu126", "cpu"):
        script = project / "requirements" / "install.sh"
        done = _run(script, python, "runtime", **settings, TORCH_BUILD=build, FLASH_ATTN="off")
        assert done.returncode == 0, done.stdout + done.stderr
        assert _installed(python) == f"{VERSION}+{build}"


def test_the_installs_settings_may_stand_in_env_and_an_empty_one_counts(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("TORCH_CPU_INDEX=\nTORCH_BUILD=cu126\nMODEL=auto\n")
    assert install_settings({}, file) == {"TORCH_CPU_INDEX": "", "TORCH_BUILD": "cu126"}
    assert install_settings({"TORCH_BUILD": "cpu"}, file)["TORCH_BUILD"] == "cpu"
    assert install_settings({}, tmp_path / "none") == {}


TORCH = f"""
class version: cuda = '13.0'
class _C: _GLIBCXX_USE_CXX11_ABI = True
__version__ = '{VERSION}'
"""
SETUP = f"""
import os, torch
from setuptools import setup
facts = {{name: os.environ.get(name) for name in ('MAX_JOBS', 'FLASH_ATTN_CUDA_ARCHS')}}
facts['torch'] = torch.__version__
os.makedirs('flash_attn', exist_ok=True)
open('flash_attn/__init__.py', 'w').write('facts = ' + repr(facts))
setup(name='flash-attn', version='{FLASH}', packages=['flash_attn'])
"""


@pytest.fixture
def torch(python: Path, pypi: Index) -> None:
    """A torch that says what it was built with, and no more."""
    _install(python, wheel(pypi.folder, "torch", VERSION, TORCH))


def _install(python: Path, package: Path) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--no-index", "--force-reinstall", str(package)]
    subprocess.run(command, check=True)


def _tag() -> str:
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return f"{python}-{python}-linux_{os.uname().machine}"


@pytest.mark.usefixtures("torch")
def test_flash_attention_comes_as_a_wheel_where_one_fits(python: Path, pypi: Index, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    short = ".".join(VERSION.split(".")[:2])
    other = f"{FLASH}+cu12torch{short}cxx11abiTRUE"
    _install(python, wheel(tmp_path / "wheels", "flash-attn", other, tag=_tag()))
    settings = {"PIP_INDEX_URL": pypi.url, "FLASH_ATTN_WHEELS": str(tmp_path / "wheels")}
    done = _run("flash-attn.sh", python, "auto", **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _installed(python, "flash-attn") is None, "it was built for another CUDA"
    assert done.stdout.splitlines()[0] == f"flash-attn {other} does not fit the torch that is installed: removed"
    assert done.stdout.count("\n") == 2
    assert "FLASH_ATTN=build compiles it" in done.stdout
    wheel(tmp_path / "wheels", "flash-attn", f"{FLASH}+cu13torch{short}cxx11abiTRUE", tag=_tag())
    done = _run("flash-attn.sh", python, "auto", **settings)
    assert _installed(python, "flash-attn") == f"{FLASH}+cu13torch{short}cxx11abiTRUE", done.stdout + done.stderr
    assert _installed(python, "einops") is not None, "flash-attn imports it"


@pytest.mark.usefixtures("torch")
def test_flash_attention_can_be_left_out(python: Path) -> None:
    assert _run("flash-attn.sh", python, "off").stdout == ""
    assert _installed(python, "flash-attn") is None


@pytest.mark.usefixtures("torch")
def test_flash_attention_of_another_torch_is_removed(python: Path, tmp_path: Path) -> None:
    short = ".".join(VERSION.split(".")[:2])
    for version, content, stays in (
        (f"{FLASH}+cu13torch{short}cxx11abiTRUE", "", True),
        (FLASH, "raise ImportError('undefined symbol')", False),  # compiled here, for the torch of then
        (FLASH, "", True),
    ):
        _install(python, wheel(tmp_path, "flash-attn", version, content))
        done = _run("flash-attn.sh", python, "off")
        assert done.returncode == 0, done.stdout + done.stderr
        assert _installed(python, "flash-attn") == (version if stays else None)
        assert ("removed" in done.stdout) is not stays


def test_without_cuda_no_flash_attention_stays(python: Path, pypi: Index, tmp_path: Path) -> None:
    _install(python, wheel(pypi.folder, "torch", VERSION, TORCH.replace("'13.0'", "None")))
    _install(python, wheel(tmp_path, "flash-attn", f"{FLASH}+cu13torch2.13cxx11abiTRUE"))
    assert "removed" in _run("flash-attn.sh", python, "off").stdout
    assert _installed(python, "flash-attn") is None


@pytest.mark.usefixtures("torch")
def test_what_was_compiled_for_one_torch_is_not_installed_beside_another(
    python: Path, pypi: Index, tmp_path: Path
) -> None:
    _source(pypi.folder, tmp_path)
    tools = ["ninja==1.13.2", "wheel==0.48.0", "packaging", "setuptools"]
    download = [str(python), "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(pypi.folder), *tools]
    subprocess.run(download, check=True)  # from wherever this machine gets its packages
    _program(tmp_path / "bin", "nvidia-smi", "printf '%s\\n' 8.6 9.0")
    _program(tmp_path / "bin", "nvcc", "")
    settings = {
        "PIP_INDEX_URL": pypi.url,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "MAX_JOBS": "4",
    }
    assert _facts(python, settings) == {"MAX_JOBS": None, "FLASH_ATTN_CUDA_ARCHS": "80;90", "torch": VERSION}
    shutil.move(pypi.folder / f"flash_attn-{FLASH}.tar.gz", tmp_path)
    assert _facts(python, settings)["torch"] == VERSION, "compiled once, it is kept"
    shutil.move(tmp_path / f"flash_attn-{FLASH}.tar.gz", pypi.folder)
    _install(python, wheel(tmp_path, "torch", "1.0.0", TORCH.replace(VERSION, "1.0.0")))
    assert _facts(python, settings)["torch"] == "1.0.0"


@pytest.mark.usefixtures("torch")
def test_without_nvcc_the_build_says_what_it_needs(python: Path) -> None:
    done = _run("flash-attn.sh", python, "build", PATH="/usr/bin:/bin")
    assert done.returncode != 0
    assert "needs nvcc" in done.stderr


def _facts(python: Path, settings: dict[str, str]) -> dict[str, str | None]:
    """What the installed flash-attn was compiled with."""
    done = _run("flash-attn.sh", python, "build", **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    ask = [str(python), "-c", "import flash_attn, json; print(json.dumps(flash_attn.facts))"]
    found: dict[str, str | None] = json.loads(subprocess.run(ask, check=True, capture_output=True, text=True).stdout)
    return found


def _source(folder: Path, work: Path) -> None:
    """flash-attn as a source package whose build writes down what it saw."""
    source = work / f"flash_attn-{FLASH}"
    source.mkdir()
    (source / "setup.py").write_text(SETUP)
    (source / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: flash-attn\nVersion: {FLASH}\n")
    with tarfile.open(folder / f"{source.name}.tar.gz", "w:gz") as archive:
        archive.add(source, source.name)
