"""The preflight: what it finds on machines that are not ours, and what it tells to do."""

import errno
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.models.catalogue import DEEPSEEK
from app.models.placement import Gpu, plan
from stack import mode
from stack.config import ROOT, Config, load_config
from stack.doctor import checks, disk, engine, graphics, machine, network, software, upstreams, wanted
from stack.doctor import settings as doctor_settings
from stack.doctor.finding import Finding, Level, passed, warning
from stack.host import gpus, ports
from stack.install import dependencies, packages, venvs
from stack.native import processes
from stack.protocol import StackError
from tests.support.misbehaving import MisbehavingServer
from tests.support.stubs import nvidia_smi, play

RTX = ("NVIDIA GeForce RTX 4090", 24_564)
LAPTOP = ("NVIDIA GeForce RTX 4060 Laptop GPU", 8_188)
H100 = ("NVIDIA H100 80GB HBM3", 81_559)
NOBODY = 65_534
ON_PURPOSE = "MODEL=smollm2-135m"


def configured(tmp_path: Path, **settings: str) -> Config:
    return load_config({"STATE_DIR": str(tmp_path / "state"), **settings}, tmp_path / "none")


def levels(findings: Iterator[Finding]) -> dict[str, Level]:
    return {finding.check: finding.level for finding in findings}


@contextmanager
def a_folder_of(owner: int) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, owner, -1)
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@contextmanager
def listening(environment: Mapping[str, str]) -> Iterator[str]:
    """The port of a process that listens."""
    serve = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1]); input()"
    command = [sys.executable, "-uc", serve]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("\n")


@pytest.fixture
def bus(tmp_path: Path) -> Path:
    """A bus with a graphics card of NVIDIA's, and a network card."""
    for number, vendor, kind in (("0", "0x10de", "0x030000"), ("1", "0x8086", "0x020000")):
        device = tmp_path / "bus" / number
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    return tmp_path / "bus"


class TestGpus:
    def see(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        *cards: tuple[str, int],
        driver: str,
        visible: str | None = None,
        **settings: str,
    ) -> list[Finding]:
        play(tmp_path / "bin", monkeypatch, "nvidia-smi", nvidia_smi(*cards, driver=driver))
        found = gpus.look(visible)
        return list(graphics.check_gpus(configured(tmp_path, **settings), "native", found))

    @pytest.mark.parametrize(
        ("driver", "build"), [("580.95.05", "default"), ("579.99", "CUDA 12.6"), ("525.60.13", "CUDA 12.6")]
    )
    def test_the_driver_decides_which_build_is_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: str, build: str
    ) -> None:
        findings = self.see(tmp_path, monkeypatch, RTX, RTX, driver=driver)
        assert levels(iter(findings)) == {"GPUs": Level.OK, "driver": Level.OK}
        assert build in findings[1].text

    def test_a_driver_that_is_too_old_ends_the_start_of_two_large_cards(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        driver = self.see(tmp_path, monkeypatch, RTX, RTX, driver="470.256.02")[1]
        assert driver.level is Level.FAILED
        assert "Update the driver" in driver.remedy
        assert ON_PURPOSE in driver.remedy
        on_purpose = self.see(tmp_path, monkeypatch, RTX, RTX, driver="470.256.02", MODEL="smollm2-135m")
        assert levels(iter(on_purpose)) == {"GPUs": Level.OK, "driver": Level.WARNING}

    def test_a_build_that_is_asked_for_is_held_against_the_driver(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_BUILD", "cuda")
        driver = self.see(tmp_path, monkeypatch, RTX, RTX, driver="570.10.01")[1]
        assert driver.level is Level.FAILED
        assert "needs driver 580" in driver.text
        assert ON_PURPOSE in driver.remedy
        monkeypatch.setenv("TORCH_BUILD", "cu126")
        assert self.see(tmp_path, monkeypatch, RTX, RTX, driver="570.10.01")[1].level is Level.OK

    @pytest.mark.parametrize(("cards", "holds"), [((RTX, RTX), True), ((H100,), True), ((RTX,), False)])
    def test_cards_are_held_against_the_plan(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        cards: tuple[tuple[str, int], ...],
        holds: bool,
    ) -> None:
        found = self.see(tmp_path, monkeypatch, *cards, driver="580.95")[0]
        assert found.level is (Level.OK if holds else Level.WARNING)
        assert ("smollm2-135m is served" in found.text) is not holds
        named = self.see(tmp_path, monkeypatch, *cards, driver="580.95", MODEL="deepseek-coder-v2-lite")[0]
        assert named.level is (Level.OK if holds else Level.FAILED)

    def test_hidden_cards_are_not_counted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for visible in ("0", "GPU-00000001"):
            found = self.see(tmp_path, monkeypatch, RTX, RTX, driver="580.95", visible=visible)[0]
            assert "smollm2-135m is served" in found.text
        assert not gpus.look("").found

    def test_the_weights_are_those_of_the_apps_plan(self) -> None:
        counted = plan(DEEPSEEK.config(), [Gpu(0, "large", 80 * gpus.GIB, 80 * gpus.GIB)], reserve_gib=2)
        assert counted.weights == gpus.WEIGHTS
        assert counted.kv_per_token * 2048 == gpus.LEAST_KV

    def test_a_driver_that_does_not_answer_is_no_machine_without_gpus(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bus: Path
    ) -> None:
        said = "Failed to initialize NVML: Driver/library version mismatch"
        play(tmp_path / "bin", monkeypatch, "nvidia-smi", f"echo '{said}'; exit 18")
        found = gpus.look(None, bus)
        broken = list(graphics.check_gpus(configured(tmp_path), "native", found))
        assert levels(iter(broken)) == {"GPUs": Level.FAILED}
        assert said in str(broken[0])
        assert "restart the machine" in broken[0].remedy
        small = graphics.check_gpus(configured(tmp_path, MODEL="smollm2-135m"), "native", found)
        assert levels(small) == {"GPUs": Level.WARNING}
        without_card = gpus.look(None, tmp_path / "no bus")
        assert levels(graphics.check_gpus(configured(tmp_path), "native", without_card)) == {"GPUs": Level.OK}

    def test_a_card_without_a_driver_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bus: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        (found,) = graphics.check_gpus(configured(tmp_path), "native", gpus.look(None, bus))
        assert found.level is Level.WARNING
        assert "no driver" in found.text

    @pytest.mark.parametrize(
        ("runtimes", "root", "level"),
        [
            ('{"runc":{}}', "/", Level.FAILED),
            ('{"nvidia":{},"runc":{}}', "/", Level.OK),
            ('{"runc":{}}', "/of/another/machine", Level.OK),
        ],
    )
    def test_docker_needs_a_way_to_the_cards(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtimes: str, root: str, level: Level
    ) -> None:
        play(tmp_path / "bin", monkeypatch, "nvidia-smi", nvidia_smi(RTX, RTX, driver="580.95"))
        docker = f"case \"$*\" in *Runtimes*) echo '{runtimes}' ;; *RootDir*) echo {root} ;; esac"
        play(tmp_path / "bin", monkeypatch, "docker", docker)
        found = levels(graphics.check_gpus(configured(tmp_path), "docker", gpus.look(None)))
        assert found["toolkit"] is level

    @pytest.mark.parametrize(("version", "level"), [("29.2.0", Level.OK), ("28.5.1", Level.WARNING), ("", Level.OK)])
    def test_a_cdi_specification_alone_needs_a_new_docker(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, level: Level
    ) -> None:
        (tmp_path / "cdi").mkdir()
        (tmp_path / "cdi" / "nvidia.yaml").touch()
        monkeypatch.setattr(graphics, "_CDI", (tmp_path / "cdi",))
        play(tmp_path / "bin", monkeypatch, "nvidia-smi", nvidia_smi(RTX, RTX, driver="580.95"))
        play(tmp_path / "bin", monkeypatch, "docker", f'case "$*" in *Server*) echo {version} ;; *) echo / ;; esac')
        found = {each.check: each for each in graphics.check_gpus(configured(tmp_path), "docker", gpus.look(None))}
        assert found["toolkit"].level is level
        assert ("update Docker" in found["toolkit"].remedy) is (level is Level.WARNING)


class TestSettings:
    def see(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> list[Finding]:
        (tmp_path / ".env").write_text(text)
        monkeypatch.setattr(doctor_settings, "ENV_FILE", tmp_path / ".env")
        return list(doctor_settings.check_settings())

    def test_a_name_that_nobody_reads_ends_the_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (found,) = self.see(tmp_path, monkeypatch, "FROBNICATE=1\nMODEL=auto\n")
        assert found.level is Level.FAILED
        assert "FROBNICATE" in found.text
        assert "MODEL" not in found.text.rpartition(":")[2]

    def test_a_value_of_the_installation_is_checked_before_it_begins(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_BUILD", "rocm")
        flash_attn, torch = self.see(tmp_path, monkeypatch, "FLASH_ATTN=nonsense\nTORCH_BUILD=cuda\n")
        assert (flash_attn.level, torch.level) == (Level.FAILED, Level.FAILED)
        assert "auto, build, off" in flash_attn.remedy
        assert "TORCH_BUILD=rocm" in torch.text

    def test_settings_hubs_and_proxies_may_be_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (found,) = self.see(tmp_path, monkeypatch, "HF_TOKEN=x\nhttps_proxy=http://p:1\nMODEL=auto\nFLASH_ATTN=off\n")
        assert found.level is Level.OK


class TestImageSize:
    @pytest.mark.parametrize(
        ("cards", "settings", "gpu"),
        [
            ((RTX, RTX), {}, True),
            ((RTX, RTX), {"MODEL": "smollm2-135m"}, False),
            ((RTX,), {}, False),
            ((RTX,), {"MODEL": "{folder}"}, True),
        ],
    )
    def test_room_for_the_large_image_is_asked_where_it_is_built(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        cards: tuple[tuple[str, int], ...],
        settings: dict[str, str],
        gpu: bool,
    ) -> None:
        play(tmp_path / "bin", monkeypatch, "nvidia-smi", nvidia_smi(*cards, driver="580.95"))
        play(tmp_path / "bin", monkeypatch, "docker", 'case "$*" in *RootDir*) echo / ;; esac')
        (tmp_path / "model.safetensors").touch()
        settings = {name: value.format(folder=tmp_path) for name, value in settings.items()}
        findings = list(disk.check_disk(configured(tmp_path, **settings), "docker", gpus.look(None)))
        assert ("25.0 GB for the images" in "".join(finding.text for finding in findings)) is gpu


class TestMode:
    FORBIDDEN = 'echo "permission denied while trying to connect to the Docker daemon socket" >&2; exit 1'
    SILENT = 'echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock." >&2; exit 1'

    def choose(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, **settings: str
    ) -> mode.ModeChoice:
        if script is None:
            monkeypatch.setenv("PATH", str(tmp_path))
        else:
            play(tmp_path / "bin", monkeypatch, "docker", script)
        return mode.choose(configured(tmp_path, **settings))

    def test_each_reason_why_docker_is_not_used_is_another_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.choose(tmp_path, monkeypatch, "echo 27.0").mode == "docker"
        forbidden = self.choose(tmp_path, monkeypatch, self.FORBIDDEN)
        assert forbidden.problem
        assert "usermod -aG docker" in forbidden.remedy
        assert "MODE=native" in forbidden.remedy
        silent = self.choose(tmp_path, monkeypatch, self.SILENT)
        assert (silent.mode, silent.problem) == ("native", "")
        assert "does not answer" in silent.why
        assert "systemctl start docker" in silent.note
        absent = self.choose(tmp_path, monkeypatch, None)
        assert (absent.mode, absent.problem, absent.note) == ("native", "", "")
        assert len({forbidden.why, silent.why, absent.why}) == 3

    def test_what_was_asked_for_is_never_replaced(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for script in (self.FORBIDDEN, self.SILENT):
            assert self.choose(tmp_path, monkeypatch, script, MODE="docker").problem
            native = self.choose(tmp_path, monkeypatch, script, MODE="native")
            assert (native.mode, native.problem) == ("native", "")

    def test_on_macos_it_is_docker(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(platform, "system", lambda: "Darwin")
        assert "Use Docker" in self.choose(tmp_path, monkeypatch, "echo 27.0", MODE="native").remedy
        assert "Docker Desktop" in self.choose(tmp_path, monkeypatch, self.SILENT).remedy
        assert self.choose(tmp_path, monkeypatch, None).problem

    def test_up_ends_with_the_sentence_and_touches_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        play(tmp_path / "bin", monkeypatch, "docker", self.FORBIDDEN)
        environment = {**os.environ, "MODE": "", "STATE_DIR": str(tmp_path / "state")}
        command = [sys.executable, "-m", "stack", "up"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "usermod -aG docker" in done.stderr
        assert not (tmp_path / "state").exists()


class TestPorts:
    def free(self, tmp_path: Path, **settings: str) -> Config:
        """Of ports that nobody uses, whatever runs on this machine."""
        http, prometheus, grafana = map(str, ports.free_ports(3))
        return configured(tmp_path, HTTP_PORT=http, PROMETHEUS_PORT=prometheus, GRAFANA_PORT=grafana, **settings)

    def test_who_listens_there_is_named(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as another:
            port, grafana = other.getsockname()[1], another.getsockname()[1]
            settings = {"HTTP_PORT": str(port), "GRAFANA_PORT": str(grafana)}
            native = list(network.check_ports(configured(tmp_path, **settings), "native"))
            docker = list(network.check_ports(configured(tmp_path, **settings), "docker"))
        assert [finding.level for finding in (*native, *docker)] == [Level.FAILED] * 3
        assert f"HTTP_PORT={port}" in native[0].text
        assert f"(process {os.getpid()})" in native[0].text
        assert "make up HTTP_PORT=" in native[0].remedy
        assert f"GRAFANA_PORT={grafana}" in docker[1].text

    @pytest.mark.parametrize(
        ("host", "same"), [("127.0.0.1", True), ("0.0.0.0", True), ("192.0.2.1", False), ("::1", False)]
    )
    def test_two_services_of_the_stack_cannot_have_one_port(self, tmp_path: Path, host: str, same: bool) -> None:
        port = str(ports.free_ports(1)[0])
        config = configured(tmp_path, HTTP_HOST=host, HTTP_PORT=port, PROMETHEUS_PORT=port)
        said = "\n".join(map(str, network.check_ports(config, "native")))
        assert (f"HTTP_PORT and PROMETHEUS_PORT are both {port}" in said) is same
        assert ("make up PROMETHEUS_PORT=" in said) is same

    def test_grafanas_port_counts_where_grafana_runs(self, tmp_path: Path) -> None:
        port = str(ports.free_ports(1)[0])
        config = configured(tmp_path, PROMETHEUS_PORT=port, GRAFANA_PORT=port)
        (docker,) = network.check_ports(config, "docker")
        assert f"PROMETHEUS_PORT and GRAFANA_PORT are both {port}" in docker.text
        assert "are both" not in "".join(map(str, network.check_ports(config, "native")))

    def test_a_port_that_needs_root_is_dockers_to_open(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ports, "obstacle", lambda *_: PermissionError(errno.EACCES, "Permission denied"))
        config = self.free(tmp_path)
        native = next(network.check_ports(config, "native"))
        assert native.level is Level.FAILED
        assert f"HTTP_PORT={config.http_port}: this user may not listen on this port" in native.text
        assert levels(network.check_ports(config, "docker")) == {"ports": Level.OK}

    def test_an_address_of_another_machine_is_not_called_a_taken_port(self, tmp_path: Path) -> None:
        (found,) = network.check_ports(self.free(tmp_path, HTTP_HOST="192.0.2.1"), "native")
        assert found.level is Level.FAILED
        assert "HTTP_HOST=192.0.2.1 is not an address of this machine" in found.text

    def test_nor_is_a_name_that_does_not_resolve(self, tmp_path: Path) -> None:
        (found,) = network.check_ports(self.free(tmp_path, HTTP_HOST="nothing.invalid"), "native")
        assert "HTTP_HOST=nothing.invalid is not an address of this machine" in found.text

    def test_nor_an_ipv6_address_where_ipv6_is_off(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = self.free(tmp_path, HTTP_HOST="::1")
        real = socket.socket

        def without_ipv6(family: int, kind: int) -> socket.socket:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            return real(family, kind)

        monkeypatch.setattr(socket, "socket", without_ipv6)
        (found,) = network.check_ports(config, "native")
        assert "HTTP_HOST=::1 is not an address of this machine" in found.text

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's process")
    def test_another_users_process_is_known_by_its_user(self, tmp_path: Path) -> None:
        with listening(os.environ) as port:
            config = configured(tmp_path, HTTP_PORT=port)
            with as_nobody():
                (found,) = network.check_ports(config, "native")
        assert "a process of the user root" in found.text

    def test_our_own_stack_is_not_in_the_way(self, tmp_path: Path) -> None:
        state = configured(tmp_path).state_dir
        with listening({**os.environ, processes.MARKER: str(state)}) as port:
            ours = levels(network.check_ports(configured(tmp_path, HTTP_PORT=port), "native"))
            other = configured(tmp_path, HTTP_PORT=port, STATE_DIR=str(tmp_path / "other"))
            theirs = levels(network.check_ports(other, "native"))
        assert (ours, theirs) == ({"ports": Level.OK}, {"ports": Level.FAILED})

    def test_nor_are_our_own_containers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Docker's proxy listens for them: a process that does not carry the stack's mark."""
        with listening(os.environ) as port:
            play(tmp_path / "bin", monkeypatch, "docker", f'echo "127.0.0.1:{port}->6006/tcp"')
            assert levels(network.check_ports(configured(tmp_path, HTTP_PORT=port), "docker"))["ports"] is Level.OK
            play(tmp_path / "bin", monkeypatch, "docker", "exit 0")
            assert (
                levels(network.check_ports(configured(tmp_path, HTTP_PORT=port), "docker"))["ports"] is Level.FAILED
            )


class TestDisk:
    def examine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, *cards: tuple[str, int]
    ) -> Finding:
        monkeypatch.setattr(disk, "is_filled", lambda: False)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free * disk.GB))
        found = gpus.Gpus(tuple(gpus.Gpu(name, mebibytes * gpus.MIB) for name, mebibytes in cards), "580.95")
        (finding,) = disk.check_disk(configured(tmp_path), "native", found)
        return finding

    def test_the_large_model_counts_where_it_would_be_served(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.examine(tmp_path, monkeypatch, 30).level is Level.OK
        large = self.examine(tmp_path, monkeypatch, 30, RTX, RTX)
        assert large.level is Level.FAILED
        assert "31.5 GB for the weights of deepseek-coder-v2-lite" in large.text

    def test_what_is_there_is_not_fetched_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        models = tmp_path / "state" / "models"
        (models / "deepseek-coder-v2-lite.partial" / "huggingface").mkdir(parents=True)
        with (models / "deepseek-coder-v2-lite.partial" / "huggingface" / "weights").open("wb") as sparse:
            sparse.truncate(20 * disk.GB)
        assert "11.5 GB for the weights" in self.examine(tmp_path, monkeypatch, 30, RTX, RTX).text
        (models / "deepseek-coder-v2-lite").mkdir()
        (models / "deepseek-coder-v2-lite" / "manifest.json").write_text("{}")
        assert "for the weights" not in self.examine(tmp_path, monkeypatch, 30, RTX, RTX).text

    def test_with_docker_images_and_volume_lie_where_the_engine_keeps_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        volume = tmp_path / "volume" / "deepseek-coder-v2-lite"
        volume.mkdir(parents=True)
        docker = f'case "$*" in *RootDir*) echo {tmp_path}/root ;; volume*) echo {tmp_path}/volume ;; esac'
        play(tmp_path / "bin", monkeypatch, "docker", docker)
        found = gpus.Gpus((gpus.Gpu("large", 80 * gpus.GIB),), "580.95")
        (first,) = disk.check_disk(configured(tmp_path), "docker", found)
        assert f"free at {tmp_path}" in first.text
        assert "25.0 GB for the images" in first.text
        assert "31.5 GB for the weights" in first.text
        (volume / "manifest.json").touch()
        (again,) = disk.check_disk(configured(tmp_path), "docker", found)
        assert "for the weights" not in again.text

    def test_little_room_for_logs_is_a_warning(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        needed = disk._ENVIRONMENT["cpu"] / disk.GB + 0.9
        assert self.examine(tmp_path, monkeypatch, needed + 1).level is Level.WARNING
        assert self.examine(tmp_path, monkeypatch, needed - 0.1).level is Level.FAILED


class TestMachine:
    def test_a_containers_limit_counts(self, tmp_path: Path) -> None:
        (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4194304 kB\n")
        (tmp_path / "limit").write_text(f"{gpus.GIB}\n")
        assert machine.available_memory(tmp_path / "meminfo", tmp_path / "none") == 4 * gpus.GIB
        assert machine.available_memory(tmp_path / "meminfo", tmp_path / "limit") == gpus.GIB
        (tmp_path / "limit").write_text("max\n")
        assert machine.available_memory(tmp_path / "meminfo", tmp_path / "limit") == 4 * gpus.GIB

    @pytest.mark.parametrize(("free", "level"), [(3, Level.OK), (1.7, Level.WARNING), (1, Level.FAILED)])
    def test_too_little_memory_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, level: Level
    ) -> None:
        monkeypatch.setattr(machine, "available_memory", lambda: int(free * gpus.GIB))
        config = configured(tmp_path)
        assert machine.check_memory(config, gpus.Gpus(), running=False).level is level
        assert machine.check_memory(config, gpus.Gpus(), running=True).level is Level.OK

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs a folder of another user")
    def test_a_folder_of_somebody_else_is_said(self) -> None:
        with a_folder_of(0) as roots, a_folder_of(NOBODY) as own:
            for folder, level in ((roots, Level.FAILED), (own, Level.OK)):
                config = load_config({"STATE_DIR": str(folder / "state")}, folder / "none")
                with as_nobody():
                    (found,) = machine.check_permissions(config, "docker", gpus.Gpus())
                assert found.level is level, found

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs a folder of another user")
    def test_complete_weights_of_somebody_else_are_good_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "is_filled", lambda: True)
        with a_folder_of(0) as shared, a_folder_of(NOBODY) as own:
            config = load_config({"STATE_DIR": str(own), "MODELS_DIR": str(shared)}, own / "none")
            with as_nobody():
                without = levels(machine.check_permissions(config, "native", gpus.Gpus()))
            (shared / "smollm2-135m").mkdir()
            (shared / "smollm2-135m" / "manifest.json").touch()
            with as_nobody():
                complete = levels(machine.check_permissions(config, "native", gpus.Gpus()))
        assert (without, complete) == ({"permissions": Level.FAILED}, {"permissions": Level.OK})

    def test_a_clock_before_the_files_is_wrong(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("new")
        assert machine.check_clock(tmp_path).level is Level.OK
        os.utime(tmp_path / "file", (0, time.time() + 30 * 86_400))
        found = machine.check_clock(tmp_path)
        assert found.level is Level.FAILED
        assert "certificates" in found.text


class TestSoftware:
    def lacking(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *programs: str) -> list[Finding]:
        """What a user without root is told on a machine that has only these programs."""
        monkeypatch.setattr(packages, "_SBIN", ())
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        for program in programs:
            play(tmp_path / "bin", monkeypatch, program, "exit 0")
        return list(software.check_software())

    def test_without_nginx_it_cannot_start_and_the_line_that_installs_it_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = self.lacking(tmp_path, monkeypatch, "prometheus")[1]
        assert found.level is Level.FAILED
        assert "sudo apt-get install --no-install-recommends nginx prometheus-nginx-exporter" in found.remedy

    def test_without_prometheus_it_starts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.lacking(tmp_path, monkeypatch, "nginx")[1]
        assert found.level is Level.WARNING
        assert "apt-get install --no-install-recommends prometheus" in found.remedy
        packages.ensure(packages.RUNTIME)  # and the start goes on

    def test_an_old_python_is_enough_where_a_newer_one_lies_beside_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(venvs, "sys", SimpleNamespace(version_info=(3, 10, 12), executable="/usr/bin/python3"))
        found, others = self.lacking(tmp_path, monkeypatch)
        assert (found.check, found.level) == ("python", Level.FAILED)
        assert "python3.11-venv" in found.remedy
        assert "nginx" in others.remedy, "what else has to be installed is said at once"
        for program in ("nginx", "prometheus", "prometheus-nginx-exporter"):
            play(tmp_path / "bin", monkeypatch, program, "exit 0")
        play(tmp_path / "bin", monkeypatch, "python3.12", f'exec {sys.executable} "$@"')
        python, programs = software.check_software()
        assert str(tmp_path / "bin" / "python3.12") in python.text
        assert programs.level is Level.OK


class TestReport:
    def test_doctor_says_every_check_and_ends_with_the_verdict(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            environment = {
                **os.environ,
                "MODE": "native",
                "STATE_DIR": str(tmp_path / "state"),
                "HTTP_PORT": str(other.getsockname()[1]),
            }
            command = [sys.executable, "-m", "stack", "doctor"]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        checks = {line.split()[1]: line.split()[0] for line in done.stdout.splitlines()}
        assert set(checks) >= {
            "mode",
            "settings",
            "python",
            "programs",
            "GPUs",
            "memory",
            "disk",
            "ports",
            "permissions",
            "clock",
        }
        assert checks["ports"] == "FAILED"
        assert "1 check failed" in done.stderr

    def test_up_says_what_is_wrong_and_counts_the_rest(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        good = passed("clock", "right")
        checks.preflight([good, good, warning("GPUs", "too small")])
        said = capsys.readouterr().out
        assert "too small" in said
        assert "right" not in said
        assert "doctor: 2 checks passed" in said


class TestRemoteEngine:
    def remote(self, tmp_path: Path, *addresses: str, **settings: str) -> Config:
        return configured(tmp_path, ENGINE="remote", ENGINE_URL=", ".join(addresses), **settings)

    def test_no_model_is_fetched_and_no_gpu_or_memory_is_missed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = self.remote(tmp_path, "http://a/v1", MODEL="deepseek-coder-v2-lite")
        found = gpus.look("")
        assert wanted.missing_model(config, found) is None
        assert not wanted.strict(config, found)
        monkeypatch.setattr(machine, "available_memory", lambda: 1)
        assert machine.check_memory(config, found, running=False).level is Level.OK
        assert [finding.level for finding in graphics.check_gpus(config, "native", found)] == [Level.OK]
        dependencies.ensure_model(config)  # asks nobody, and fetches nothing
        assert not config.models_dir.exists()

    def test_its_servers_are_asked_and_none_of_them_ends_the_start(self, tmp_path: Path) -> None:
        server = MisbehavingServer()
        try:
            config = self.remote(tmp_path, server.address, f"{server.address}/nothing", "http://127.0.0.1:1/v1")
            findings = list(upstreams.check_upstreams(config, "native"))
        finally:
            server.close()
        assert [finding.level for finding in findings] == [Level.OK, Level.WARNING, Level.WARNING]
        assert all(address in finding.text for address, finding in zip(config.engine_urls, findings, strict=True))
        assert list(upstreams.check_upstreams(configured(tmp_path), "native")) == []

    def test_it_needs_addresses(self, tmp_path: Path) -> None:
        with pytest.raises(StackError, match="ENGINE_URL"):
            self.remote(tmp_path)


class TestVllm:
    """ENGINE=vllm: its container needs what the app's would."""

    def test_two_cards_with_a_new_driver_are_well(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = configured(tmp_path, ENGINE="vllm")
        play(tmp_path / "bin", monkeypatch, "nvidia-smi", nvidia_smi(RTX, RTX, driver="580.95.05"))
        found = gpus.look(None)
        assert levels(graphics.check_gpus(config, "native", found)) == {"GPUs": Level.OK, "driver": Level.OK}
        assert wanted.missing_model(config, found) == DEEPSEEK.name
        assert wanted.strict(config, found)

    def test_an_older_driver_is_told_which_image_it_needs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        play(tmp_path / "bin", monkeypatch, "nvidia-smi", nvidia_smi(RTX, RTX, driver="570.10"))
        _, driver = graphics.check_gpus(configured(tmp_path, ENGINE="vllm"), "native", gpus.look(None))
        assert driver.level is Level.WARNING
        assert "VLLM_IMAGE" in driver.remedy

    @pytest.mark.parametrize("cards", [(), (LAPTOP,)])
    def test_without_cards_that_hold_the_model_it_does_not_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cards: tuple[tuple[str, int], ...]
    ) -> None:
        play(tmp_path / "bin", monkeypatch, "nvidia-smi", nvidia_smi(*cards, driver="580.95.05"))
        found = graphics.check_gpus(configured(tmp_path, ENGINE="vllm"), "native", gpus.look(None))
        assert levels(found)["GPUs"] is Level.FAILED

    def test_it_needs_containers_and_takes_no_address(self, tmp_path: Path) -> None:
        config = configured(tmp_path, ENGINE="vllm")
        (native,), (docker,) = (list(upstreams.check_upstreams(config, mode)) for mode in ("native", "docker"))
        assert (native.level, docker.level) == (Level.FAILED, Level.OK)
        assert "ENGINE=remote" in native.remedy
        with pytest.raises(StackError, match="unset ENGINE_URL"):
            configured(tmp_path, ENGINE="vllm", ENGINE_URL="http://a/v1")

    def test_its_image_wants_room_and_the_apps_is_the_small_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine, "root", lambda: tmp_path)
        monkeypatch.setattr(engine, "tell", lambda *_: "")
        play(tmp_path / "bin", monkeypatch, "nvidia-smi", nvidia_smi(RTX, RTX, driver="580.95.05"))
        (found,) = disk.check_disk(configured(tmp_path, ENGINE="vllm"), "docker", gpus.look(None))
        assert "7.0 GB for the images, 30.0 GB for vLLM's image, 31.5 GB for the weights" in found.text
