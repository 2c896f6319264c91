"""compose.yaml and its GPU part, as the compose program itself understands them. No engine is needed."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.models.catalogue import DEEPSEEK
from app.settings import Settings
from stack import nginx
from stack.config import INSTALL_SETTINGS, VLLM_URL, Config, load_config
from stack.containers import compose, weights
from stack.containers.images import CUDA_12_BUILD_IMAGE
from stack.host import gpus
from stack.native import prometheus

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PROGRAM = str(compose.compose_of(BIN.parent))
CPU = ("compose.yaml",)
GPU = ("compose.yaml", "compose.gpu.yaml")
KEYS = "compose.keys.yaml"
BOXES = "compose.boxes.yaml"
REMOTE = "compose.remote.yaml"
VLLM = ("compose.yaml", "compose.vllm.yaml")
SERVICES = [
    *((CPU, name) for name in ("app", "nginx", "nginx-exporter", "prometheus", "grafana")),
    *((GPU, name) for name in ("app", "models")),
    *((VLLM, name) for name in ("app", "models", "prometheus", "vllm")),
]
CARD = int(23.5 * 1024**3)
"""What a card that is sold with 24 GB has, in bytes, with some of it gone."""


def _compose(files: tuple[str, ...] = CPU, **environment: str) -> dict[str, Any]:
    """`compose config` in an environment with nothing but PATH and what is given."""
    command = [PROGRAM, "--project-directory", str(ROOT), "--env-file", os.devnull]
    command += [part for file in files for part in ("--file", str(ROOT / file))]
    command += ["--profile", "*", "config"]
    bare = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(command, env=bare | environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return dict(yaml.safe_load(done.stdout))  # the JSON form leaves zeros out


@pytest.fixture(scope="module")
def stacks() -> dict[tuple[str, ...], dict[str, Any]]:
    return {CPU: _compose(CPU), GPU: _compose(GPU), VLLM: _compose(VLLM)}


def _config(**environment: str) -> Config:
    return load_config(environment, env_file=Path(os.devnull))


def test_the_files_follow_the_compose_specification() -> None:
    files = [*GPU, KEYS, BOXES, REMOTE, VLLM[-1]]
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_is_looked_at_by_the_test_below(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    assert {name for _, name in SERVICES} == {name for stack in stacks.values() for name in stack["services"]}


@pytest.mark.parametrize(("files", "name"), SERVICES)
def test_a_service_has_only_what_it_needs(
    stacks: dict[tuple[str, ...], dict[str, Any]], files: tuple[str, ...], name: str
) -> None:
    service = stacks[files]["services"][name]
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].split(":")[0]) > 0
    assert service["ulimits"]["core"] in (0, {"soft": 0, "hard": 0})
    limits = service["deploy"]["resources"]["limits"]
    assert int(limits["memory"]) > 0
    assert int(limits["pids"]) > 0
    assert name in ("app", "vllm") or float(limits["cpus"]) > 0  # the model takes all processors
    assert service["logging"]["driver"] == "json-file"
    assert all(isinstance(value, str) for value in service["logging"]["options"].values())
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["restart"] == ("no" if name == "models" else "unless-stopped")
    binds = [mount for mount in service.get("volumes", []) if mount["type"] == "bind"]
    assert all(mount["read_only"] for mount in binds)
    assert not any("docker.sock" in mount["source"] for mount in binds)


@pytest.mark.parametrize(("files", "name"), SERVICES)
def test_what_is_mounted_is_in_the_repository(
    stacks: dict[tuple[str, ...], dict[str, Any]], files: tuple[str, ...], name: str
) -> None:
    for mount in stacks[files]["services"][name].get("volumes", []):
        if mount["type"] == "bind":
            assert Path(mount["source"]).exists(), f"{mount['source']}: the engine would make an empty folder of it"


def test_only_nginx_can_be_reached_from_outside() -> None:
    services = _compose(GPU, HTTP_HOST="0.0.0.0", HTTP_PORT="7000")["services"]
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"nginx", "prometheus", "grafana"}
    assert [(port["host_ip"], port["published"]) for port in published["nginx"]] == [("0.0.0.0", "7000")]
    for name in ("prometheus", "grafana"):
        assert [port["host_ip"] for port in published[name]] == ["127.0.0.1"]


def test_by_default_nothing_can_be_reached_from_outside(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    ports = [port for service in stacks[GPU]["services"].values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_only_the_fetch_of_a_model_can_call_out(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    stack = stacks[GPU]
    assert stack["networks"]["backend"]["internal"] is True
    assert stack["networks"]["edge"]["driver_opts"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    for name, service in stack["services"].items():
        assert set(service["networks"]) <= ({"fetch"} if name == "models" else {"backend", "edge"})
    assert set(stack["services"]["app"]["networks"]) == {"backend"}


def test_every_image_is_pinned_by_a_version(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    images = [service["image"] for service in stacks[GPU]["services"].values() if "image" in service]
    arguments = stacks[GPU]["services"]["app"]["build"]["args"]
    images += [value for name, value in arguments.items() if name in ("PYTHON_IMAGE", "CUDA_BUILD_IMAGE")]
    images += [CUDA_12_BUILD_IMAGE, stacks[VLLM]["services"]["vllm"]["image"]]
    assert len(images) >= 8
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), f"{image} is not pinned"
        assert "@" not in image, f"{image}: a digest cannot be stood in for"


def test_every_image_can_be_replaced_by_a_mirrors() -> None:
    variables = ("NGINX", "NGINX_EXPORTER", "PROMETHEUS", "GRAFANA", "PYTHON", "CUDA_BUILD", "VLLM")
    mirrored = _compose(GPU, **{f"{name}_IMAGE": f"mirror.example/{name.lower()}:1.0" for name in variables})
    vllm = _compose(VLLM, VLLM_IMAGE="mirror.example/vllm:1.0")["services"]["vllm"]
    for name, service in {**mirrored["services"], "vllm": vllm}.items():
        if "image" in service:
            assert service["image"] == f"mirror.example/{name.replace('-', '_')}:1.0"
        else:
            images = {value for key, value in service["build"]["args"].items() if key.endswith("_IMAGE")}
            assert images == {"no-wheels", *(f"mirror.example/{each}:1.0" for each in ("python", "cuda_build"))}


def test_the_base_images_are_the_dockerfiles_own(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    for name, value in stacks[GPU]["services"]["app"]["build"]["args"].items():
        if name.endswith("_IMAGE"):
            assert f"ARG {name}={value}\n" in dockerfile


def test_a_container_is_killed_only_after_gunicorn_gave_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for drain in (None, 100):
        settings: dict[str, str] = {} if drain is None else {"DRAIN_SECONDS": str(drain)}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        gunicorn = runpy.run_path(str(ROOT / "docker" / "gunicorn.conf.py"))
        given = compose.environment(_config(**settings))["STOP_GRACE_PERIOD"]
        for stack in [_compose(STOP_GRACE_PERIOD=given)] + ([_compose()] if drain is None else []):
            for name in ("app", "nginx"):
                assert _seconds(stack["services"][name]["stop_grace_period"]) > gunicorn["graceful_timeout"]


def _seconds(duration: str) -> int:
    found = re.fullmatch(r"(?:(\d+)m)?(\d+)s", duration)
    assert found is not None
    return 60 * int(found[1] or 0) + int(found[2])


def test_every_setting_reaches_the_app() -> None:
    stack_decides = {"APP_HOST", "APP_PORT", "MODELS_DIR", "CACHE_DIR", "LOG_FOLDER", "API_KEYS_FILE"}
    names = {name.upper() for name in Settings.model_fields}
    given = {name: f"from-{name}" for name in names - stack_decides} | {"STARTUP_DEADLINE": "7", "HTTP_HOST": "::1"}
    environment = _compose(CPU, **given)["services"]["app"]["environment"]
    assert set(environment) >= names
    assert {name: environment[name] for name in given} == given


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"max-size": "50m", "max-file": "5"}),
        ({"LOG_MEGABYTES": "7", "LOG_FILES": "2"}, {"max-size": "7m", "max-file": "2"}),
    ],
)
def test_logs_are_kept_as_the_settings_say(given: dict[str, str], kept: dict[str, str]) -> None:
    made = compose.environment(_config(**given))
    services = _compose(GPU, LOG_MEGABYTES=made["LOG_MEGABYTES"], LOG_FILES=made["LOG_FILES"])["services"]
    assert {name: service["logging"]["options"] for name, service in services.items()} == dict.fromkeys(
        services, kept
    )
    assert _compose(CPU)["services"]["app"]["logging"]["options"] == {"max-size": "50m", "max-file": "5"}


def test_a_setting_that_nobody_made_is_left_to_the_app(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    environment = stacks[CPU]["services"]["app"]["environment"]
    assert environment["DTYPE"] is None
    assert environment["MODELS_DIR"] == "/models"


def test_the_folder_of_the_api_keys_is_mounted_so_that_a_replaced_file_is_seen() -> None:
    config = _config(API_KEYS_FILE="/some:where/keys.txt")
    given = {name: value for name, value in compose.environment(config).items() if name.startswith("API_KEYS")}
    app = _compose((*CPU, KEYS), **given)["services"]["app"]
    mounted = {volume["target"]: volume for volume in app["volumes"]}["/run/api-keys"]
    assert (mounted["type"], mounted["source"], mounted["read_only"]) == ("bind", "/some:where", True)
    assert app["environment"]["API_KEYS_FILE"] == "/run/api-keys/keys.txt"
    assert compose.compose_files(keys=True)[1].name == KEYS


def test_the_app_has_a_way_out_only_to_a_remote_engine(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    local, remote = stacks[CPU], _compose((*CPU, REMOTE), UPSTREAM_TARGETS="/some/where.json")
    assert set(local["services"]["app"]["networks"]) == {"backend"}
    assert set(remote["services"]["app"]["networks"]) == {"backend", "upstreams"}
    assert set(remote["services"]["prometheus"]["networks"]) == {"backend", "edge", "upstreams"}
    assert not remote["networks"]["upstreams"].get("internal", False)
    config = _config(ENGINE="remote", ENGINE_URL="http://a/v1")
    assert compose.compose_files(remote=config.remote)[1].name == REMOTE
    assert not _config(ENGINE_URL="http://a/v1").remote


def test_vllm_has_the_gpus_and_the_app_is_its_gateway(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    app, vllm = (stacks[VLLM]["services"][name] for name in ("app", "vllm"))
    reserved = vllm["deploy"]["resources"]["reservations"]["devices"]
    assert [(device["count"], device["capabilities"]) for device in reserved] == [(-1, ["gpu"])]
    assert "reservations" not in app["deploy"]["resources"]
    assert app["build"]["target"] == "cpu"
    assert (app["environment"]["ENGINE"], app["environment"]["ENGINE_URL"]) == ("remote", VLLM_URL)
    assert set(app["depends_on"]) == {"vllm"}, "it is stopped first, and drains"
    config = _config(ENGINE="vllm")
    assert config.engine_urls == (VLLM_URL,)
    started = compose.Compose(config)
    assert "vllm" in started.essential, "a start ends where it keeps exiting"
    command = started.command("config")
    assert [part for part in command if part.endswith((REMOTE, VLLM[-1]))] == [str(ROOT / VLLM[-1])]


def test_vllm_serves_what_the_fetch_put_into_the_volume(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    app, models, vllm = (stacks[VLLM]["services"][name] for name in ("app", "models", "vllm"))
    folder, *arguments = vllm["command"]
    (read,) = [mount for mount in vllm["volumes"] if mount["target"] == "/models"]
    (written,) = [mount for mount in models["volumes"] if mount["target"] == models["environment"]["MODELS_DIR"]]
    assert read["source"] == written["source"]
    assert (read["read_only"], written.get("read_only", False)) == (True, False)
    assert stacks[VLLM]["volumes"]["models"] == {"name": weights.VOLUME, "external": True}
    assert models["command"][-1] == DEEPSEEK.name
    assert models["build"]["target"] == "cpu"
    assert folder == f"/models/{DEEPSEEK.name}"
    assert f"--served-model-name={DEEPSEEK.name}" in arguments
    assert app["environment"]["MODEL"] == DEEPSEEK.name
    assert "--trust-remote-code" not in arguments
    assert vllm["environment"]["HF_HUB_OFFLINE"] == "1"


def test_nobody_from_outside_reaches_vllm_and_it_reaches_nobody() -> None:
    stack = _compose(VLLM, HTTP_HOST="0.0.0.0", ENGINE_API_KEY="between-us")
    services = stack["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"nginx", "prometheus", "grafana"}
    assert set(services["vllm"]["networks"]) == set(services["app"]["networks"]) == {"backend"}
    assert stack["networks"]["backend"]["internal"] is True
    keys = services["vllm"]["environment"]["VLLM_API_KEY"], services["app"]["environment"]["ENGINE_API_KEY"]
    assert keys == ("between-us", "between-us")
    assert not any("between-us" in argument for argument in services["vllm"]["command"])


def test_a_longest_request_fits_two_cards_of_24_gb(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    """Each card has its part of the weights, and all of a token's latent."""
    command = stacks[VLLM]["services"]["vllm"]["command"]
    given = dict(argument.removeprefix("--").split("=") for argument in command if "=" in argument)
    budget = CARD * float(given["gpu-memory-utilization"]) - gpus.WEIGHTS / int(given["tensor-parallel-size"])
    activations = 2 * gpus.GIB
    per_token = gpus.LEAST_KV // 2048
    assert int(given["max-model-len"]) * per_token + activations < budget


def test_without_the_mounted_folder_nobody_is_served_without_keys(
    stacks: dict[tuple[str, ...], dict[str, Any]],
) -> None:
    app = _compose(API_KEYS_FILE="/somewhere/keys")["services"]["app"]
    assert app["environment"]["API_KEYS_FILE"].endswith("needs-compose.keys.yaml"), "the app says this path, and ends"
    assert stacks[CPU]["services"]["app"]["environment"]["API_KEYS_FILE"] == ""


def test_other_boxes_get_to_nginx_with_a_way_to_them(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    config = _config(UPSTREAMS="10.0.0.2:6006", UPSTREAM_BALANCE="key")
    values = nginx.variables(config, listen="6006", internal="8081", app="app:8000")
    given = compose.environment(config)
    stack = _compose((*CPU, BOXES), **{name: given[name] for name in ("UPSTREAMS", *values) if name in given})
    environment = stack["services"]["nginx"]["environment"]
    # What `config` prints can be read by compose again: its dollars are doubled.
    assert {name: environment[name].replace("$$", "$") for name in values} == values
    assert "server 10.0.0.2:6006 " in environment["UPSTREAM_SERVERS"]
    assert set(stack["services"]["nginx"]["networks"]) == {"backend", "boxes", "edge"}
    assert not stack["networks"]["boxes"].get("internal")
    assert set(stacks[CPU]["services"]["nginx"]["networks"]) == {"backend", "edge"}
    assert compose.compose_files(boxes=True)[1].name == BOXES


def test_without_that_file_nobody_is_served_by_fewer_boxes() -> None:
    environment = _compose(UPSTREAMS="10.0.0.2:6006")["services"]["nginx"]["environment"]
    assert "needs-compose.boxes.yaml-app:8000" in environment["UPSTREAM_SERVERS"], "nginx says this name, and ends"


def test_nginx_templates_get_their_variables(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    templates = (ROOT / "nginx" / "templates").glob("*.template")
    wanted = {name for template in templates for name in re.findall(r"\$\{([A-Z_]+)\}", template.read_text())}
    environment = stacks[CPU]["services"]["nginx"]["environment"]
    assert wanted <= set(environment)
    values = nginx.variables(_config(), listen="6006", internal="8081", app="app:8000")
    assert {name: environment[name] for name in values} == values


def test_prometheus_finds_every_service_that_has_metrics(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    jobs = yaml.safe_load((ROOT / "monitoring" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    wanted = {f"/etc/prometheus/{file}" for job in jobs for each in job["file_sd_configs"] for file in each["files"]}
    of_servers = {"/etc/prometheus/targets/upstreams.json"}
    for files, missing in ((CPU, of_servers), (GPU, of_servers), (VLLM, set[str]())):
        services = stacks[files]["services"]
        mounts = {mount["target"]: mount["source"] for mount in services["prometheus"]["volumes"]}
        found = {target: source for target, source in mounts.items() if "/targets/" in target}
        assert set(found) == wanted - missing
        for source in found.values():
            for group in json.loads(Path(source).read_text()):
                assert {target.split(":")[0] for target in group["targets"]} <= {"localhost", *services}


def test_all_gpus_are_reserved_and_one_is_enough(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    app = stacks[GPU]["services"]["app"]
    devices = app["deploy"]["resources"]["reservations"]["devices"]
    assert [(device["count"], device["capabilities"]) for device in devices] == [(-1, ["gpu"])]  # -1: all
    assert app["build"]["target"] == "gpu"
    assert app["environment"]["CUDA_VISIBLE_DEVICES"] is None, "an empty one would hide every GPU"
    assert _compose(GPU, CUDA_VISIBLE_DEVICES="1")["services"]["app"]["environment"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert "devices" not in stacks[CPU]["services"]["app"]["deploy"]["resources"].get("reservations", {})


def test_what_was_fetched_belongs_to_no_checkout(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    assert stacks[GPU]["volumes"]["models"] == {"name": weights.VOLUME, "external": True}
    for name, written in (("app", False), ("models", True)):
        (mount,) = [mount for mount in stacks[GPU]["services"][name]["volumes"] if mount["target"] == "/models"]
        assert (mount["source"], mount["type"]) == ("models", "volume")
        assert mount.get("read_only", False) is not written


def test_a_folder_of_this_machine_can_take_the_volumes_place(tmp_path: Path) -> None:
    services = _compose(GPU, MODELS_MOUNT=str(tmp_path), MODELS_USER="1000:1000")["services"]
    for name in ("app", "models"):
        (mount,) = [mount for mount in services[name]["volumes"] if mount["target"] == "/models"]
        assert (mount["source"], mount["type"]) == (str(tmp_path), "bind")
    assert services["models"]["user"] == "1000:1000"


def test_the_fetch_is_no_part_of_a_start_and_knows_the_hubs(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    assert stacks[GPU]["services"]["models"]["profiles"] == ["fetch"]
    assert "depends_on" not in stacks[GPU]["services"]["app"]
    given = {
        "HF_ENDPOINT": "https://mirror.example",
        "HF_TOKEN": "hf_x",
        "MODELSCOPE_API_TOKEN": "ms",
        "MODELSCOPE_DOMAIN": "ms.example",
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "localhost",
    }
    environment = _compose(GPU, **given)["services"]["models"]["environment"]
    assert {name: environment[name] for name in given} == given


def test_what_decides_the_installation_reaches_the_build() -> None:
    given = {name: f"from-{name}" for name in INSTALL_SETTINGS}
    arguments = _compose(GPU, **given)["services"]["app"]["build"]["args"]
    assert {name: arguments[name] for name in given} == given
    for service in ("app", "models"):  # one image, built by either
        assert _compose(GPU, **given)["services"][service]["build"]["args"] == arguments
    assert _compose(GPU, TORCH_CPU_INDEX="")["services"]["app"]["build"]["args"]["TORCH_CPU_INDEX"] == ""


def test_what_compiles_at_run_time_has_a_place_that_stays(stacks: dict[tuple[str, ...], dict[str, Any]]) -> None:
    for files in (CPU, GPU):
        app = stacks[files]["services"]["app"]
        assert ("cache", app["environment"]["CACHE_DIR"]) in [
            (mount["source"], mount["target"]) for mount in app["volumes"]
        ]


def test_prometheus_is_bounded_in_both_modes(stacks: dict[tuple[str, ...], dict[str, Any]], tmp_path: Path) -> None:
    native = prometheus.command(tmp_path, tmp_path, "127.0.0.1:1")
    bounds = [argument for argument in native if "retention" in argument]
    assert [
        argument for argument in stacks[CPU]["services"]["prometheus"]["command"] if "retention" in argument
    ] == bounds
    assert any("retention.size" in argument for argument in bounds)


def test_the_program_says_when_it_fails() -> None:
    done = subprocess.run([PROGRAM, "config", "--no-such-option"], capture_output=True, check=False, timeout=60)
    assert done.returncode != 0


def test_two_stacks_have_projects_of_their_own(tmp_path: Path) -> None:
    one, other = (_config(STATE_DIR=str(tmp_path / name)) for name in ("one", "other"))
    assert compose.project_name(one) != compose.project_name(other)
    assert compose.project_name(one) == compose.project_name(_config(STATE_DIR=str(tmp_path / "one")))


@pytest.mark.timeout(60)
def test_reading_logs_ends_although_compose_ignores_its_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it does at times while it follows them."""
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    deaf += "; print('a line', flush=True); time.sleep(300)"
    containers = compose.Compose(_config())
    monkeypatch.setattr(containers, "command", lambda *_: [sys.executable, "-c", deaf])
    lines = containers.lines("logs", "--follow")
    assert next(lines) == "a line"
    lines.close()  # type: ignore[attr-defined]  # a generator
