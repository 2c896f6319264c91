"""`make up` and its parts, as far as they can be tried without the model (tests/e2e has the whole)."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from app.contract.telemetry import Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from stack.client import ask, own_key
from stack.config import ROOT, load_config, read_env_file
from stack.forwarded_settings import hand_on
from stack.host import ports
from stack.install import dependencies, packages
from stack.install.venvs import PYTHON, ensure_venv
from stack.native import processes
from stack.native.fingerprint import fingerprint
from stack.native.retention import tend
from stack.native.supervisor import Program, Retention, Supervisor, socket_path, start, write_config
from stack.protocol import StackError
from stack.smoke import await_true
from tests.support.controlled import ControlledEngine
from tests.support.driver import driver_environment
from tests.support.live import LiveServer
from tests.support.patience import PATIENCE
from tests.support.stubs import play


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, because a socket's path has a limit that pytest's own folders come near."""
    with tempfile.TemporaryDirectory(prefix="stack-") as name:
        yield Path(name)


def stack_command(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stack", *command],
        check=False,
        cwd=ROOT,
        env={**os.environ, "MODE": "native", "MODEL": "smollm2-135m", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


class TestConfig:
    def test_defaults_are_the_apps(self, tmp_path: Path) -> None:
        config = load_config({}, tmp_path / "none")
        for name in ("http_host", "max_body_bytes", "drain_seconds", "request_timeout", "startup_deadline", "model"):
            assert getattr(config, name) == Settings.model_fields[name].default, name
        assert config.models_dir == ROOT / Settings.model_fields["models_dir"].default
        assert config.cache_dir == ROOT / Settings.model_fields["cache_dir"].default

    def test_the_environment_beats_the_env_file(self, tmp_path: Path) -> None:
        file = tmp_path / ".env"
        file.write_text("# a comment\nHTTP_PORT=7000 # why\nMODEL='x # y'\nSTATE_DIR=\nPROMETHEUS_PORT=7001\n")
        assert read_env_file(file) == {"HTTP_PORT": "7000", "MODEL": "x # y", "PROMETHEUS_PORT": "7001"}
        config = load_config({"HTTP_PORT": "7002"}, file)
        assert (config.http_port, config.prometheus_port, config.model) == (7002, 7001, "x # y")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("HTTP_PORT", "0"), ("HTTP_PORT", "web"), ("MODE", "magic"), ("DRAIN_SECONDS", "-1"), ("LOG_FILES", "0")],
    )
    def test_a_wrong_value_is_named(self, tmp_path: Path, name: str, value: str) -> None:
        with pytest.raises(StackError, match=f"{name}={value}"):
            load_config({name: value}, tmp_path / "none")

    @pytest.mark.parametrize(
        ("host", "address"),
        [("127.0.0.1", "http://127.0.0.1:6006"), ("0.0.0.0", "http://127.0.0.1:6006"), ("::", "http://[::1]:6006")],
    )
    def test_the_address_is_one_that_this_machine_reaches(self, tmp_path: Path, host: str, address: str) -> None:
        assert load_config({"HTTP_HOST": host}, tmp_path / "none").address == address


class TestUp:
    def test_a_taken_port_is_said_before_anything_starts(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            http, prometheus = (str(taken.getsockname()[1]) for taken in (one, other))
            done = stack_command("up", STATE_DIR=str(folder), HTTP_PORT=http, PROMETHEUS_PORT=prometheus)
        assert done.returncode == 1
        assert f"HTTP_PORT={http}" in done.stderr
        assert f"PROMETHEUS_PORT={prometheus}" in done.stderr
        assert list(folder.iterdir()) == []

    @pytest.mark.native
    @pytest.mark.model
    def test_an_app_that_cannot_start_ends_up_with_its_own_words_and_leaves_nothing(self, folder: Path) -> None:
        """The keys are read by the app alone, so everything before it succeeds."""
        http, prometheus = map(str, ports.free_ports(2))
        keys = folder / "keys"
        keys.write_text("no key here\n")
        done = stack_command(
            "up",
            STATE_DIR=str(folder),
            MODELS_DIR=os.environ.get("MODELS_DIR") or str(ROOT / "var" / "models"),
            HTTP_PORT=http,
            PROMETHEUS_PORT=prometheus,
            API_KEYS_FILE=str(keys),
        )
        assert done.returncode == 1, done.stdout
        assert "Starting nginx, app" in done.stdout
        assert re.search(r"^app exited( \(code 3\))?\. The end of its log:$", done.stderr, re.MULTILINE)
        assert "cannot start" in done.stderr
        assert "API_KEYS_FILE" in done.stderr
        assert processes.of_stack(folder) == []
        assert ports.obstacle("127.0.0.1", int(http)) is None

    @pytest.mark.native
    @pytest.mark.model
    def test_sidecars_that_keep_ending_are_named_and_the_model_is_served(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also: only this user may read what it writes; the next `up` reads files that an operator has corrected."""
        real = {program: packages.program(program) for program in ("prometheus", "prometheus-nginx-exporter")}
        for program in real:
            play(folder / "bin", monkeypatch, program, f"echo {program} is broken; exit 1")
        http, prometheus = map(str, ports.free_ports(2))
        state = folder / "state"
        (state / "logs").mkdir(parents=True)
        (state / "logs" / "app.log.1").touch(mode=0o644)
        environment = {
            "STATE_DIR": str(state),
            "MODELS_DIR": os.environ.get("MODELS_DIR") or str(ROOT / "var" / "models"),
            "HTTP_PORT": http,
            "PROMETHEUS_PORT": prometheus,
        }
        try:
            done = stack_command("up", **environment)
            assert done.returncode == 0, done.stderr
            for name, program in (("prometheus", "prometheus"), ("nginx-exporter", "prometheus-nginx-exporter")):
                assert f"Serving without {name}, which keeps exiting" in done.stdout
                assert f"{program} is broken" in done.stdout
            assert "Serving smollm2-135m" in done.stdout
            assert "Prometheus  " not in done.stdout
            asked = stack_command("smoke", **environment)
            assert asked.returncode == 0, asked.stderr
            refused = stack_command("restart", **environment, TORCH_BUILD="none of them")
            assert refused.returncode == 1
            assert "TORCH_BUILD" in refused.stderr
            assert "Serving smollm2-135m" in stack_command("status", **environment).stdout, "it still runs"
            private = [state / name for name in ("logs", "native", "prometheus-data")] + [*(state / "logs").iterdir()]
            assert [path for path in private if path.stat().st_mode & 0o077] == []
            for program, path in real.items():
                play(folder / "bin", monkeypatch, program, f'exec {path} "$@"')
            repaired = stack_command("up", **environment)
            assert repaired.returncode == 0, repaired.stderr
            assert "Serving without" not in repaired.stdout
            assert "restarting it" not in repaired.stdout
            assert "Prometheus  " in repaired.stdout
        finally:
            assert stack_command("down", **environment).returncode == 0
        assert processes.of_stack(state) == []

    @pytest.mark.native
    @pytest.mark.model
    def test_keys_change_while_the_stack_runs_and_it_is_not_started_again(self, folder: Path) -> None:
        http, prometheus = map(str, ports.free_ports(2))
        keys, state = folder / "keys", folder / "state"
        environment = {
            "STATE_DIR": str(state),
            "MODELS_DIR": os.environ.get("MODELS_DIR") or str(ROOT / "var" / "models"),
            "HTTP_PORT": http,
            "PROMETHEUS_PORT": prometheus,
            "API_KEYS_FILE": str(keys),
        }

        def change(*arguments: str) -> str:
            done = stack_command("keys", *arguments, **environment)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        def status(key: str) -> int:
            answer = ask(f"http://127.0.0.1:{http}/v1/models", key=key)
            assert answer is not None
            return answer.status

        first = change("add", "first")
        try:
            assert stack_command("up", **environment).returncode == 0
            started = Supervisor(state / "native").programs()["app"]["pid"]
            refused = stack_command("smoke", **environment)
            assert refused.returncode == 1
            assert "API_KEY=" in refused.stderr
            asked = stack_command("smoke", **environment, API_KEY=first)
            assert asked.returncode == 0, asked.stderr
            second = change("add", "second")
            await_true(lambda: status(second) == 200, "the new key")
            change("revoke", "second")
            await_true(lambda: status(second) == 401, "the end of the key")
            assert status(first) == 200
            assert stack_command("up", **environment).returncode == 0
            assert Supervisor(state / "native").programs()["app"]["pid"] == started
        finally:
            assert stack_command("down", **environment).returncode == 0

    @pytest.mark.native
    @pytest.mark.model
    def test_a_gateway_needs_no_model_and_answers_by_another_server(self, folder: Path, embedded_model: Path) -> None:
        engine = ControlledEngine(range(100, 110))
        app = create_app(Settings(_env_file=None), engine, Prompts(embedded_model, SCRIPTED_MODEL), Observers())
        behind = LiveServer(app)
        http, prometheus = map(str, ports.free_ports(2))
        environment = {
            "STATE_DIR": str(folder / "state"),
            "HTTP_PORT": http,
            "PROMETHEUS_PORT": prometheus,
            "MODEL": "auto",
            "ENGINE": "remote",
            "ENGINE_URL": f"{behind.url}v1",
        }
        try:
            done = stack_command("up", **environment)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Serving scripted" in done.stdout
            asked = stack_command("smoke", **environment)
            assert asked.returncode == 0, asked.stderr
            assert asked.stdout.count("  ok  ") == 5
            assert not (folder / "state" / "models").exists()
        finally:
            stack_command("down", **environment)
            behind.close()
        assert processes.of_stack(folder / "state") == []

    def test_what_runs_is_current_until_code_or_settings_change_and_keys_are_read_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = tmp_path / "keys"
        keys.write_text("a:b\n")
        config = load_config({"API_KEYS_FILE": str(keys)}, tmp_path / "none")
        first = fingerprint(config)
        assert fingerprint(config) == first
        keys.write_text("a:c\n")
        assert fingerprint(config) == first
        assert fingerprint(load_config({"HTTP_PORT": "7000"}, tmp_path / "none")) != first
        monkeypatch.setenv("KV_TOKENS", "4096")
        assert fingerprint(config) != first

    def test_without_a_file_of_keys_there_is_a_clear_word(self, folder: Path) -> None:
        done = stack_command("keys", "list", STATE_DIR=str(folder), API_KEYS_FILE="")
        assert done.returncode == 1
        assert "API_KEYS_FILE" in done.stderr
        assert stack_command("status", "all", STATE_DIR=str(folder)).returncode == 2

    def test_without_a_stack_there_is_a_clear_word(self, folder: Path) -> None:
        done = stack_command("status", STATE_DIR=str(folder), PATH="/nonexistent")
        assert done.returncode == 1
        assert "make up" in done.stderr


class TestOwnKey:
    """The key that `make smoke` asks with."""

    def test_it_is_the_environments_or_else_a_plain_one_of_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("API_KEY", raising=False)
        assert own_key(load_config({}, tmp_path / "none")) is None
        keys = tmp_path / "keys"
        config = load_config({"API_KEYS_FILE": str(keys)}, tmp_path / "none")
        keys.write_text('# a:comment\n{"name": "hashed", "sha256": "0"}\n plain: secret \nother:key\n')
        assert own_key(config) == "secret"
        monkeypatch.setenv("API_KEY", "given")
        assert own_key(config) == "given"

    @pytest.mark.parametrize("content", ['{"name": "hashed", "sha256": "0"}\n', None])
    def test_where_there_is_none_the_way_to_give_one_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
    ) -> None:
        monkeypatch.delenv("API_KEY", raising=False)
        keys = tmp_path / "keys"
        if content is not None:
            keys.write_text(content)
        with pytest.raises(StackError, match="make smoke API_KEY="):
            own_key(load_config({"API_KEYS_FILE": str(keys)}, tmp_path / "none"))


class TestPackages:
    def test_who_may_not_install_is_told_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        missing = packages.Package("some-package", "a-program-that-nobody-has")
        with pytest.raises(StackError, match=r"apt-get install .* some-package"):
            packages.ensure((missing,))

    @pytest.mark.parametrize("own", [None, "#!/bin/sh\nexit 0\n"], ids=["none before", "one before"])
    def test_services_may_not_start_during_an_install_and_may_after(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None
    ) -> None:
        policy = tmp_path / "policy-rc.d"
        if own is not None:
            policy.write_text(own)
        monkeypatch.setattr(packages, "POLICY", policy)

        def install_and_fail() -> None:
            with packages.no_service_starts():
                assert subprocess.run([policy], check=False).returncode == 101
                raise RuntimeError("the install failed")

        with pytest.raises(RuntimeError, match="the install failed"):
            install_and_fail()
        assert (policy.read_text() if policy.exists() else None) == own


class TestVirtualEnvironment:
    def test_after_a_move_its_scripts_name_the_new_place(self, tmp_path: Path) -> None:
        """Not made anew: what was installed is still there."""
        (tmp_path / "old").mkdir()
        ensure_venv(tmp_path / "old" / ".venv")
        (tmp_path / "old" / ".venv" / "kept").touch()
        (tmp_path / "old").rename(tmp_path / "new")
        moved = tmp_path / "new" / ".venv"
        with pytest.raises(FileNotFoundError):
            subprocess.run([moved / "bin" / "pip", "--version"], check=True)
        ensure_venv(moved)
        told = subprocess.run([moved / "bin" / "pip", "--version"], check=True, capture_output=True, text=True)
        assert str(moved) in told.stdout
        assert (moved / "kept").exists()

    def test_one_whose_python_is_gone_is_made_anew(self, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").symlink_to(tmp_path / "gone")
        ensure_venv(tmp_path)
        assert subprocess.run([tmp_path / "bin" / "python", "-c", "import pip"], check=False).returncode == 0


class TestEnvFile:
    def test_what_hubs_and_proxies_need_reaches_every_child_and_the_shell_comes_first(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "environ", {"HF_ENDPOINT": "the shell's", "https_proxy": "the shell's"})
        file = tmp_path / ".env"
        file.write_text("HF_ENDPOINT=mine\nHF_TOKEN=mine\nHTTPS_PROXY=mine\nMODEL=auto\n")
        hand_on(file)
        assert os.environ == {"HF_ENDPOINT": "the shell's", "https_proxy": "the shell's", "HF_TOKEN": "mine"}


def test_the_help_of_keys_needs_no_file(folder: Path) -> None:
    done = stack_command("keys", "add", "--help", STATE_DIR=str(folder), API_KEYS_FILE="")
    assert done.returncode == 0, done.stderr
    assert "--log-content" in done.stdout
    assert list(folder.iterdir()) == []


def end_of(log: Path) -> bytes:
    """Its last five bytes; none while it is being rotated."""
    return subprocess.run(["tail", "--bytes=5", log], check=False, capture_output=True).stdout


def words(log: Path) -> set[str]:
    """Of its lines; none while it is put aside."""
    return set(log.read_text().split()) if log.exists() else set()


@contextmanager
def supervised(folder: Path, program: Program, retention: Retention) -> Iterator[Supervisor]:
    """A real supervisor that runs the program, and has ended with it afterwards."""
    config = write_config(folder, folder / "logs", [program], retention)
    start(PYTHON, config, {**os.environ, processes.MARKER: str(folder)})
    control = Supervisor(folder)
    try:
        pid = control.pid()
        yield control
    finally:
        control.shut_down()
    assert processes.wait([pid], PATIENCE)


class TestSupervisor:
    def test_a_long_path_still_has_a_socket(self, folder: Path) -> None:
        """Also with characters that supervisor's own format would read otherwise."""
        deep = folder / ("50% of a long name " * 6).strip()
        logs = deep / "logs"
        logs.mkdir(parents=True)
        assert len(os.fsencode(socket_path(deep))) < 108
        sleeper = Program(name="sleeper", command=["sleep", "1000"], directory=deep, priority=1)
        with supervised(deep, sleeper, Retention(50, 5, 30)) as control:
            assert control.programs()["sleeper"]["pid"]
            assert {log.stat().st_mode & 0o777 for log in logs.iterdir()} == {0o600}
        assert not control.alive()
        assert processes.of_stack(deep) == []

    def test_no_more_logs_are_kept_than_the_settings_say(self, folder: Path) -> None:
        logs = folder / "logs"
        logs.mkdir()
        endless = ["sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' x | fold; echo; echo last; exec sleep 1000"]
        talker = Program(name="talker", command=endless, directory=folder, priority=1)
        with supervised(folder, talker, Retention(1, 3, 0)):
            await_true(lambda: end_of(logs / "talker.log") == b"last\n", "the last line", PATIENCE)
        kept = sorted(logs.glob("talker.log*"))
        assert [log.name for log in kept] == ["talker.log", "talker.log.1", "talker.log.2"]
        assert all(log.stat().st_size < 2 << 20 for log in kept)

    def test_lines_of_earlier_days_go_with_their_age(self, folder: Path) -> None:
        """A log that began on an earlier day is put aside while its program writes on; an old one goes."""
        logs = folder / "logs"
        logs.mkdir()
        (logs / "talker.log").write_text('{"timestamp": "2020-02-02T20:20:20Z", "event": "old"}\n')
        (logs / "talker.log.1").write_text('{"timestamp": "2020-01-31T20:20:20Z", "event": "older"}\n')
        (logs / "other.log").write_text("no time at all\n")
        talking = ["sh", "-c", "while sleep 0.1; do echo word; done"]
        talker = Program(name="talker", command=talking, directory=folder, priority=1)
        with supervised(folder, talker, Retention(1, 5, 30)) as control:
            await_true(lambda: words(logs / "talker.log") == {"word"}, "a log that begins anew", PATIENCE)
            assert control.programs()["retention"]["statename"] in ("STARTING", "RUNNING")
        assert '"old"' in (logs / "talker.log.1").read_text()
        assert not (logs / "talker.log.2").exists()
        assert (logs / "other.log").read_text() == "no time at all\n"


class TestRetention:
    @pytest.mark.parametrize("files", [1, 2, 5])
    def test_no_line_is_older_than_it_may_be_and_most_get_near_to_it(self, tmp_path: Path, files: int) -> None:
        """A program that writes a line a day, for a year. A file goes whole, so some lines go early."""
        days, log, kept = 30, tmp_path / "app.log", []
        first = date(2027, 1, 1)
        for number in range(365):
            today = first + timedelta(days=number)
            with log.open("a", encoding="utf-8") as file:
                file.write(f'{{"timestamp": "{today}T12:00:00Z"}}\n')
            tend(tmp_path, days, files, today)
            there = [line for path in tmp_path.iterdir() for line in path.read_text().splitlines()]
            ages = [(today - date.fromisoformat(line[15:25])).days for line in there]
            assert max(ages, default=0) <= days
            assert len(list(tmp_path.iterdir())) <= files
            kept.append(max(ages, default=0))
        assert max(kept) >= days - 1
        assert min(kept[2 * days :]) >= days - days // files - 1

    def test_what_tells_no_time_stays(self, tmp_path: Path) -> None:
        for name in ("app.log", "app.log.1", "app.log.old"):
            (tmp_path / name).write_text("2020-02-02 no time\n")
        assert not tend(tmp_path, 1, 5, date(2027, 1, 1))
        assert len(list(tmp_path.iterdir())) == 3


class TestProcesses:
    def test_what_ignores_sigterm_is_killed(self, folder: Path) -> None:
        command = ["sh", "-c", "trap '' TERM; echo deaf; while :; do read line; done"]
        environment = {**os.environ, processes.MARKER: str(folder)}
        with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()
                assert [found.pid for found in processes.of_stack(folder)] == [process.pid]
                assert processes.of_stack(folder / "another") == []
                processes.end([process.pid], grace=0.1)
                assert process.poll() == -signal.SIGKILL
            finally:
                process.kill()
        assert processes.of_stack(folder) == []


def test_nothing_is_fetched_where_no_model_can_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two GPUs of a made-up driver that could hold DeepSeek, and a torch without CUDA: no 31 GB for nothing."""
    gpus = {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "MODEL": "deepseek-coder-v2-lite",
        **driver_environment(tmp_path, [24, 24]),
    }
    for name, value in gpus.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(dependencies, "fetch_model", pytest.fail)
    with pytest.raises(StackError, match="No model can be served"):
        dependencies.ensure_model(
            load_config({"MODEL": gpus["MODEL"], "STATE_DIR": str(tmp_path)}, tmp_path / "none")
        )
    assert "MODEL=smollm2-135m serves the small model on purpose" in capfd.readouterr().err
