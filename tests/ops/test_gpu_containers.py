"""Which containers get GPUs, and where their weights come from, on machines that cannot be had here.

`nvidia-smi` and `docker` are scripts that say what such a machine would; what they are asked is noted.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.config import ROOT, Config, load_config
from stack.containers import compose, gpu_access, images, preparation, weights
from stack.containers.stack import ContainerStack
from stack.host.gpus import MODEL, SMALL, Gpus
from stack.protocol import StackError

Machine = Callable[..., Path]
NO_TOOLKIT = 'could not select device driver "" with capabilities: [[gpu]].'


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine with these GPUs (GiB each), where containers can use them or not; the file with docker's calls."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def make(*gib: int, driver: str = "580.65", toolkit: bool = True, choose: str = f"echo {MODEL}") -> Path:
        folder, calls = tmp_path / "bin", tmp_path / "calls"
        folder.mkdir(exist_ok=True)
        calls.touch()
        rows = "\n".join(f"{n}, GPU-{n}, NVIDIA Test, {size * 1024}, {driver}" for n, size in enumerate(gib))
        _program(
            folder / "nvidia-smi",
            f"""case $1 in *=driver_version) echo {driver} ;; *=compute_cap) echo 8.9 ;; *) echo '{rows}' ;; esac""",
        )
        services = {
            "app": {"build": {"args": {"PYTHON_IMAGE": "python:test", "CUDA_BUILD_IMAGE": "cuda:test"}}},
            "nginx": {"image": "nginx:test"},
        }
        probe = ":" if toolkit else f"""echo 'docker: Error response from daemon: {NO_TOOLKIT}' >&2; exit 125"""
        _program(
            folder / "docker",
            f"""{{ echo "$*"; echo "  TORCH_BUILD=$TORCH_BUILD ARCHS=$FLASH_ATTN_CUDA_ARCHS CUDA=$CUDA_BUILD_IMAGE"
                echo "  MODELS_MOUNT=$MODELS_MOUNT MODELS_USER=$MODELS_USER FETCH_MODEL=$FETCH_MODEL"; }} >> {calls}
            case "$*" in
                *"config --format json") echo '{json.dumps({"services": services})}' ;;
                *stand-in*) ;;
                "image inspect"*) echo sha256:1 ;;
                "run --rm --gpus all"*) {probe} ;;
                *"-m app choose") {choose} ;;
            esac""",
        )
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return calls

    return make


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _config(tmp_path: Path, **settings: str) -> Config:
    return load_config({"STATE_DIR": str(tmp_path / "state"), **settings}, env_file=Path(os.devnull))


def _prepare(config: Config) -> compose.Compose:
    made = compose.Compose(config)
    preparation.prepare(config, made)
    return made


def _files(calls: Path, of: str) -> list[str]:
    """The compose files of each call that ends so."""
    return [line for line in calls.read_text().splitlines() if line.endswith(of)]


@pytest.mark.parametrize("cards", [(24, 24), (80,)], ids=["two of 24 GB", "one of 80 GB"])
def test_gpus_that_hold_the_model_serve_it(machine: Machine, tmp_path: Path, cards: tuple[int, ...]) -> None:
    calls = machine(*cards)
    assert _prepare(_config(tmp_path)).gpus
    said = calls.read_text()
    order = ["run --rm --gpus all", "build app models", "-m app choose", "run --rm -T models"]
    assert sorted(order, key=said.index) == order
    assert _files(calls, "run --rm -T models")[0].count("compose.gpu.yaml") == 1
    assert f"FETCH_MODEL={MODEL}" in said
    assert "volume create serving-models" in said


@pytest.mark.parametrize(("cards", "share"), [((24, 24), 2), ((80,), 1), ((24, 24, 24), 2), ((12, 12, 12, 12), 4)])
def test_vllms_container_gets_the_gpus_and_the_weights_that_the_app_would(
    machine: Machine, tmp_path: Path, cards: tuple[int, ...], share: int
) -> None:
    calls = machine(*cards)
    made = _prepare(_config(tmp_path, ENGINE="vllm"))
    assert not made.gpus, "the app has none"
    said = calls.read_text()
    order = ["run --rm --gpus all", "volume create serving-models", "build models", "run --rm -T models", "build app"]
    assert sorted(order, key=said.index) == order
    fetch = _files(calls, "run --rm -T models")[0]
    assert [part for part in fetch.split() if part.endswith(".yaml")][1:] == [str(ROOT / "compose.vllm.yaml")]
    assert f"FETCH_MODEL={MODEL}" in said
    assert made.variables["VLLM_GPUS"] == str(share)


def test_vllm_reads_weights_that_lie_here(machine: Machine, tmp_path: Path) -> None:
    calls = machine(24, 24)
    _complete(tmp_path / "state" / "models" / MODEL)
    made = _prepare(_config(tmp_path, ENGINE="vllm"))
    assert made.variables["MODELS_MOUNT"] == str(tmp_path / "state" / "models")
    assert "run --rm -T models" not in calls.read_text()


@pytest.mark.parametrize(
    ("cards", "settings", "reason"),
    [
        ((), {}, "ENGINE=vllm needs NVIDIA's GPUs; no GPU was found"),
        ((8, 8), {}, "does not fit the GPUs"),
        ((24, 24), {"MODEL": SMALL}, f"ENGINE=vllm serves {MODEL}"),
        ((24, 24), {"MODEL": "/weights/mine"}, f"ENGINE=vllm serves {MODEL}"),
    ],
)
def test_what_vllm_cannot_serve_is_said_before_anything_is_built(
    machine: Machine, tmp_path: Path, cards: tuple[int, ...], settings: dict[str, str], reason: str
) -> None:
    calls = machine(*cards)
    with pytest.raises(StackError, match=reason):
        _prepare(_config(tmp_path, ENGINE="vllm", **settings))
    assert calls.read_text() == ""


def test_without_vllms_image_nothing_is_started(machine: Machine, tmp_path: Path) -> None:
    calls = machine(24, 24)
    docker = tmp_path / "bin" / "docker"
    refusal = 'echo "manifest unknown" >&2; exit 1'
    services = {"app": {"build": {"args": {"PYTHON_IMAGE": "python:test"}}}, "vllm": {"image": "vllm:gone"}}
    script = f"""case "$*" in
        "image inspect"*vllm:gone) exit 1 ;;
        "pull"*) {refusal} ;;
        *"config --format json") echo '{json.dumps({"services": services})}'; exit ;;
    esac
    case"""
    docker.write_text(docker.read_text().replace("case", script, 1))
    with pytest.raises(StackError, match="vllm:gone could not be pulled"):
        _prepare(_config(tmp_path, ENGINE="vllm"))
    assert "build app" not in calls.read_text()


@pytest.mark.parametrize(
    ("settings", "way_out"), [({}, f"MODEL={SMALL}"), ({"ENGINE": "vllm"}, "Unset ENGINE")], ids=["ours", "vLLM"]
)
def test_a_missing_toolkit_is_said_before_anything_is_built(
    machine: Machine, tmp_path: Path, settings: dict[str, str], way_out: str
) -> None:
    calls = machine(24, 24, toolkit=False)
    with pytest.raises(StackError, match="could not select device driver") as raised:
        _prepare(_config(tmp_path, **settings))
    assert "NVIDIA's container toolkit" in str(raised.value)
    assert way_out in str(raised.value)
    assert "build app" not in calls.read_text()


def test_the_small_model_on_purpose_needs_no_toolkit(machine: Machine, tmp_path: Path) -> None:
    calls = machine(24, 24, toolkit=False)
    assert not _prepare(_config(tmp_path, MODEL=SMALL)).gpus
    assert "--gpus" not in calls.read_text()
    assert _files(calls, "build app")
    assert "compose.gpu.yaml" not in calls.read_text()


def test_gpus_that_are_too_small_leave_the_small_model_and_say_so(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = machine(8, 8)
    assert not _prepare(_config(tmp_path)).gpus
    assert f"{MODEL} does not fit the GPUs" in capsys.readouterr().out
    assert "--gpus" not in calls.read_text()


def test_the_images_own_plan_has_the_last_word(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = machine(24, 24, choose=f"echo 'it does not fit' >&2; echo {SMALL}")
    assert not _prepare(_config(tmp_path)).gpus
    assert "it does not fit" in capsys.readouterr().out
    assert "run --rm -T models" not in calls.read_text()
    assert "compose.gpu.yaml" not in _files(calls, "build app")[0]


def test_gpus_that_torch_cannot_use_end_the_start_with_the_apps_own_reason(machine: Machine, tmp_path: Path) -> None:
    machine(24, 24, choose="echo ' Network x  Created' >&2; echo 'the driver is older than' >&2; exit 1")
    with pytest.raises(StackError, match=r"^the driver is older than$"):
        _prepare(_config(tmp_path))


def test_a_model_by_name_that_fits_no_gpu_is_refused(machine: Machine, tmp_path: Path) -> None:
    machine(8)
    with pytest.raises(StackError, match="does not fit the GPUs"):
        _prepare(_config(tmp_path, MODEL=MODEL))
    machine()
    with pytest.raises(StackError, match="containers serve it only on GPUs"):
        _prepare(_config(tmp_path, MODEL=MODEL))


@pytest.mark.parametrize(
    ("driver", "expected"),
    [("580.65", "TORCH_BUILD=cuda ARCHS=80 CUDA=\n"), ("550.1", "TORCH_BUILD=cu126 ARCHS=80 CUDA=nvidia/cuda:12.6")],
)
def test_the_driver_decides_the_images_build(machine: Machine, tmp_path: Path, driver: str, expected: str) -> None:
    calls = machine(24, 24, driver=driver)
    _prepare(_config(tmp_path))
    built = calls.read_text().partition("build app models\n")[2]
    assert expected in built.partition("MODELS_MOUNT")[0]


def test_an_image_with_nvcc_that_env_names_is_kept(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(24, 24, driver="550.1")
    monkeypatch.setattr(images, "ENV_FILE", tmp_path / ".env")
    assert images.gpu_build_arguments()["CUDA_BUILD_IMAGE"] == images.CUDA_12_BUILD_IMAGE
    (tmp_path / ".env").write_text("CUDA_BUILD_IMAGE=mirror.example/cuda:12.6\n")
    assert "CUDA_BUILD_IMAGE" not in images.gpu_build_arguments()  # so compose reads it from .env


def _complete(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")


def test_weights_that_lie_here_are_not_fetched(machine: Machine, tmp_path: Path) -> None:
    calls = machine(24, 24)
    _complete(tmp_path / "state" / "models" / MODEL)
    made = _prepare(_config(tmp_path))
    assert made.variables["MODELS_MOUNT"] == str(tmp_path / "state" / "models")
    assert "run --rm -T models" not in calls.read_text()


def test_into_a_folder_of_this_machine_its_owner_fetches(machine: Machine, tmp_path: Path) -> None:
    calls = machine(24, 24)
    _prepare(_config(tmp_path, MODELS_DIR=str(tmp_path / "weights")))
    fetch = calls.read_text().partition("run --rm -T models\n")[2]
    owner = f"{os.getuid()}:{os.getgid()}"
    assert f"MODELS_MOUNT={tmp_path / 'weights'} MODELS_USER={owner} FETCH_MODEL={MODEL}" in fetch


def _model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(1000))
    return folder


def test_a_folder_of_this_machine_is_served_where_it_lies(machine: Machine, tmp_path: Path) -> None:
    machine()
    folder = _model(tmp_path / "mine")
    made = _prepare(_config(tmp_path, MODEL=str(folder)))
    assert made.weights
    assert not made.gpus
    assert made.variables["WEIGHTS_MOUNT"] == f"{folder}:/weights/mine"
    assert made.variables["MODEL_IN_CONTAINER"] == "/weights/mine"


def test_on_gpus_too(machine: Machine, tmp_path: Path) -> None:
    calls = machine(24, choose="echo mine")
    made = _prepare(_config(tmp_path, MODEL=str(_model(tmp_path / "mine"))))
    assert made.weights
    assert made.gpus
    assert "run --rm -T models" not in calls.read_text()


def test_a_hubs_cache_is_mounted_with_what_its_links_lead_to(tmp_path: Path) -> None:
    blobs = tmp_path / "models--x" / "blobs"
    blobs.mkdir(parents=True)
    snapshot = tmp_path / "models--x" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (blobs / name).write_bytes(b"{}")
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    variables = weights.of_folder(_config(tmp_path, MODEL=str(snapshot))).variables
    assert variables["WEIGHTS_MOUNT"] == f"{tmp_path}/models--x:/weights/models--x"
    assert variables["MODEL_IN_CONTAINER"] == "/weights/models--x/snapshots/abc"


def test_a_folder_that_the_container_could_not_read_is_said(tmp_path: Path) -> None:
    folder = _model(tmp_path / "mine")
    (folder / "model.safetensors").chmod(0o600)
    with pytest.raises(StackError, match=r"chmod -R o\+rX"):
        weights.of_folder(_config(tmp_path, MODEL=str(folder)))
    with pytest.raises(StackError, match="not a folder with a config"):
        weights.of_folder(_config(tmp_path, MODEL=str(tmp_path / "other")))


def test_a_start_that_fails_for_a_sidecar_goes_on_without_it(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = machine()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(docker.read_text().replace("case", 'case "$*" in *" up "*grafana*) exit 1 ;; esac\ncase', 1))
    stack = ContainerStack(_config(tmp_path))
    stack._start(["app", "nginx", "grafana", "prometheus"])
    started = [line.partition(" up ")[2] for line in calls.read_text().splitlines() if " up " in line]
    options = "--detach --remove-orphans"
    assert started == [
        f"{options} app nginx grafana prometheus",
        f"{options} --no-deps app nginx",
        f"{options} --no-deps grafana",
        f"{options} --no-deps prometheus",
    ]
    assert "grafana did not start" in capsys.readouterr().out


def test_what_could_hold_the_model_is_decided_by_the_cards_that_are_meant(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(24, 24)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert not _prepare(_config(tmp_path)).gpus
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not _prepare(_config(tmp_path)).gpus


def test_a_broken_driver_ends_the_start(tmp_path: Path) -> None:
    broken = Gpus(problem="nvidia-smi lists no GPU", broken=True)
    with pytest.raises(StackError, match="Repair the driver"):
        gpu_access.wants_gpus(_config(tmp_path), broken)
    absent = Gpus(problem="this machine has an NVIDIA GPU but no driver")
    assert not gpu_access.wants_gpus(_config(tmp_path), absent)
