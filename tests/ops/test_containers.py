"""What ContainerStack decides around compose, with a Docker client on PATH that says what a test wants.

The real engine is used by the end-to-end tests in MODE=docker; no engine can be made to fail as these do.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack.config import load_config
from stack.containers import compose, health, images
from stack.containers.stack import ContainerStack
from stack.keys import keys
from stack.protocol import StackError

Docker = Callable[[str], Path]


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    """Puts a shell script in docker's place; returns the file in which its calls are noted, one a line."""

    def install(script: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        calls = tmp_path / "calls"
        calls.touch()
        program = folder / "docker"
        program.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return calls

    return install


def _pulls(calls: Path) -> list[str]:
    return [call.split()[-1] for call in calls.read_text().splitlines() if call.startswith("pull")]


def test_an_image_that_is_there_is_neither_pulled_nor_replaced(docker: Docker) -> None:
    calls = docker('case "$*" in *stand-in*) ;; "image inspect"*) echo sha256:1 ;; *) exit 1 ;; esac')
    assert images.provide({"nginx": "nginx:1.30"}) == {}
    assert _pulls(calls) == []


def test_a_registry_that_refuses_is_an_error_and_no_reason_for_a_stand_in(docker: Docker) -> None:
    docker('case $1 in pull) echo "manifest for nginx:1.99 not found: manifest unknown" >&2 ;; esac; exit 1')
    with pytest.raises(StackError, match=r"nginx:1\.99 could not be pulled: manifest for nginx:1\.99 not found"):
        images.provide({"nginx": "nginx:1.99"})


def test_a_silent_registry_is_asked_once_and_what_has_no_stand_in_is_named(docker: Docker) -> None:
    calls = docker('case $1 in pull) echo "dial tcp: lookup registry: no such host" >&2 ;; esac; exit 1')
    wanted = {"grafana": "grafana/grafana:12", "cuda_build": "nvidia/cuda:13", "other": "mirror.example/other:4"}
    missing = images.provide(wanted)
    assert set(missing) == set(wanted)
    assert "no registry answers for nvidia/cuda:13" in missing["cuda_build"]
    assert _pulls(calls) == ["grafana/grafana:12", "mirror.example/other:4"]


def test_a_registry_that_refuses_a_sidecars_image_does_not_stop_the_model(docker: Docker) -> None:
    docker('case $1 in pull) echo "toomanyrequests: rate limit" >&2 ;; esac; exit 1')
    missing = images.provide({"grafana": "grafana/grafana:12"}, optional=["grafana"])
    assert missing == {"grafana": "grafana/grafana:12 could not be pulled: toomanyrequests: rate limit"}


def test_base_images_of_builds_are_wanted_too() -> None:
    arguments = {"PYTHON_IMAGE": "python:3.11", "WHEELS_IMAGE": "no-wheels", "CUDA_BUILD_IMAGE": "cuda:13"}
    services: dict[str, Any] = {"app": {"build": {"args": arguments}, "image": "ours"}, "nginx": {"image": "nginx:1"}}
    assert images.wanted(services) == {"nginx": "nginx:1", "python": "python:3.11"}, "several GB that nothing uses"
    arguments["FLASH_ATTN"] = "build"
    assert images.wanted(services)["cuda_build"] == "cuda:13"


def test_pips_own_settings_reach_the_build(docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker('case "$1 $2" in "image inspect") exit 1 ;; "import -") cat > /dev/null ;; esac')
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "torch-1.0+cpu-py3-none-any.whl").touch()
    settings = tmp_path / "pip.conf"
    settings.write_text(
        f"[global]\nindex-url = https://mirror.example/simple\nextra-index-url = file:///here\n"
        f"find-links = {tmp_path}\n    https://mirror.example/wheels\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_INDEX_URL", "https://environment.example/simple")
    monkeypatch.setattr(images, "ROOT", tmp_path)
    arguments = images.build_arguments()
    assert arguments["PIP_INDEX_URL"] == "https://environment.example/simple"
    assert "file:" not in arguments["PIP_EXTRA_INDEX_URL"]
    assert "https://mirror.example/wheels" in arguments["PIP_FIND_LINKS"].split()
    assert str(tmp_path) not in arguments["PIP_FIND_LINKS"]
    assert arguments["WHEELS_IMAGE"].startswith("stand-in/wheels:")


LONG_AGO = "2001-01-01T00:00:00.123456789Z"


def _containers(*states: dict[str, Any], restarts: int = 0) -> str:
    found = [
        {
            "Id": str(number),
            "RestartCount": restarts,
            "State": {"ExitCode": 0, "StartedAt": LONG_AGO} | state,
            "Config": {"Labels": {"com.docker.compose.service": f"service{number}"}},
        }
        for number, state in enumerate(states)
    ]
    return json.dumps(found)


HEALTHY = {"Status": "running", "Health": {"Status": "healthy"}}
STARTING = {"Status": "running", "Health": {"Status": "starting"}}
ESSENTIAL = ["service0"]


def _states(docker: Docker, tmp_path: Path, *answers: str) -> None:
    """`docker inspect` gives one answer after the other, and the last one for ever."""
    for number, answer in enumerate(answers):
        (tmp_path / f"answer{number}").write_text(answer)
    docker(f"""case $1 in ps) echo 0 ;; inspect)
        n=$(cat {tmp_path}/count 2>/dev/null || echo 0)
        cat {tmp_path}/answer$n
        [ $n -lt {len(answers) - 1} ] && echo $((n + 1)) > {tmp_path}/count ;; esac; exit 0""")


def test_healthy_ends_the_wait(docker: Docker, tmp_path: Path) -> None:
    without_check = {"Status": "running"}
    done = _containers(HEALTHY, without_check)
    _states(docker, tmp_path, _containers(STARTING), _containers(STARTING), done)
    assert health.wait_until_healthy("project", 30, ESSENTIAL) == {}
    assert (tmp_path / "count").read_text().strip() == "2"


def test_a_container_that_keeps_ending_is_not_waited_for(docker: Docker, tmp_path: Path) -> None:
    again = {"Status": "restarting"}
    _states(docker, tmp_path, _containers(STARTING, restarts=5), _containers(again, restarts=7))
    with pytest.raises(StackError, match="service0 keeps exiting"):
        health.wait_until_healthy("project", 30, ESSENTIAL)


def test_a_sidecar_that_keeps_ending_takes_nothing_down(docker: Docker, tmp_path: Path) -> None:
    again, never = {"Status": "restarting"}, {"Status": "created"}
    _states(docker, tmp_path, _containers(HEALTHY, again, never), _containers(HEALTHY, again, never, restarts=2))
    without = health.wait_until_healthy("project", 30, [])
    assert without["service1"].startswith("it keeps exiting")
    assert without["service2"] == "it did not start"


def test_a_sidecar_that_is_late_is_not_waited_for_for_ever(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_SIDECAR_PATIENCE", 0)
    _states(docker, tmp_path, _containers(HEALTHY, STARTING))
    assert health.wait_until_healthy("project", 30, ESSENTIAL) == {"service1": "still starting"}


def test_a_sidecar_without_a_check_has_to_run_for_a_while(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_SIDECAR_PATIENCE", 0)
    just_now = {"Status": "running", "StartedAt": "2999-01-01T00:00:00Z"}
    _states(docker, tmp_path, _containers(HEALTHY, just_now))
    assert health.wait_until_healthy("project", 30, ESSENTIAL) == {"service1": "still starting"}


def test_patience_ends(docker: Docker, tmp_path: Path) -> None:
    _states(docker, tmp_path, _containers(STARTING, HEALTHY))
    with pytest.raises(StackError, match=r"Not healthy after 0 s: service0 \(starting\)"):
        health.wait_until_healthy("project", 0, ESSENTIAL)


def test_without_a_docker_client_nothing_runs_and_down_is_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    stack = ContainerStack(load_config({"STATE_DIR": str(tmp_path)}, env_file=Path(os.devnull)))
    assert not compose.engine_answers()
    assert stack.processes() == []
    stack.down()
    with pytest.raises(StackError, match="No Docker engine answers"):
        stack.up()


def test_a_keys_file_that_the_app_could_not_read_is_said_before_anything_starts(
    docker: Docker, tmp_path: Path
) -> None:
    calls = docker("exit 0")
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o755)
    keys = folder / "keys"
    keys.write_text("me:secret")
    keys.chmod(0o600)
    stack = ContainerStack(
        load_config({"STATE_DIR": str(tmp_path), "API_KEYS_FILE": str(keys)}, env_file=Path(os.devnull))
    )
    with pytest.raises(StackError, match=f"chown 10001 {keys}"):
        stack.up()
    keys.chmod(0o644)
    folder.chmod(0o700)
    with pytest.raises(StackError, match=f"chown 10001 {folder},"):
        stack.up()
    assert "compose" not in calls.read_text()


def test_a_folder_of_keys_that_would_show_the_container_more_than_keys_is_refused(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker("exit 0")
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "me"))
    keys = tmp_path / "home" / "keys"
    keys.parent.mkdir()
    keys.write_text("me:secret")
    config = load_config({"STATE_DIR": str(tmp_path), "API_KEYS_FILE": str(keys)}, env_file=Path(os.devnull))
    with pytest.raises(StackError, match="a folder of its own"):
        ContainerStack(config).up()


def test_where_no_app_is_installed_its_image_changes_the_keys(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = docker("exit 0")
    monkeypatch.setattr("stack.keys.is_filled", lambda: False)
    folder = tmp_path / "of-keys"
    config = load_config({"STATE_DIR": str(tmp_path), "API_KEYS_FILE": str(folder / "keys")}, Path(os.devnull))
    with pytest.raises(StackError, match=f"mkdir -p {folder}"):
        keys(config, ["list"])
    folder.mkdir()
    keys(config, ["add", "blue"])
    (call,) = [call for call in calls.read_text().splitlines() if " run " in call]
    assert "compose.keys.yaml" not in call, "it mounts the folder for reading alone"
    assert f"--user {os.getuid()}:{os.getgid()} --volume {folder}:/keys app python" in call
    assert call.endswith("-m app keys add blue --file /keys/keys")


def test_log_lines_are_told_apart_by_service(docker: Docker, tmp_path: Path) -> None:
    printed = """'nginx-exporter-1  | up\\rapp-1 | x' 'app-1         | {"a": "b | c"}'"""
    docker(f"""case "$*" in *logs*) printf '%b\\n' {printed} ;; esac""")
    stack = ContainerStack(load_config({"STATE_DIR": str(tmp_path)}, env_file=Path(os.devnull)))
    assert list(stack.log_lines(follow=False)) == [("nginx-exporter", "up\rapp-1 | x"), ("app", '{"a": "b | c"}')]


@pytest.mark.parametrize("stops", [True, False])
def test_the_app_is_stopped_before_what_passes_its_answers_on(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    """An app that cannot be stopped keeps nothing from being removed."""
    calls = docker("exit 0")
    monkeypatch.setattr(compose.Compose, "command", lambda _, *arguments: ["docker", "compose", *arguments])
    if not stops:
        docker('case "$*" in "compose stop app") exit 1 ;; esac')
    stack = ContainerStack(load_config({"STATE_DIR": str(tmp_path)}, env_file=Path(os.devnull)))
    remains = iter([["app"], []])
    monkeypatch.setattr(stack, "_remains", lambda: next(remains))
    stack.down()
    asked = [line for line in calls.read_text().splitlines() if line.startswith("compose")]
    assert asked == ["compose stop app", "compose down --remove-orphans"]
