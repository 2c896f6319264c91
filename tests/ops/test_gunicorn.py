"""gunicorn's configuration: one worker whatever one does, and deadlines that outlast one another."""

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.worker import LAST_BYTES_SECONDS
from stack.config import ROOT, load_config
from stack.host.ports import free_ports
from stack.smoke import await_true
from tests.support.driver import driver_environment
from tests.support.patience import PATIENCE
from tests.support.ports import wait_for_port

COMMAND = [sys.executable, "-m", "gunicorn", "--config", "docker/gunicorn.conf.py"]


def environment(**settings: str) -> dict[str, str]:
    return {**os.environ, "APP_PORT": str(free_ports(1)[0]), **settings}


@pytest.mark.parametrize("drain", [0, 30, 3600])
def test_each_deadline_outlasts_the_one_before(drain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAIN_SECONDS", str(drain))
    gunicorn = runpy.run_path(str(ROOT / "docker" / "gunicorn.conf.py"))["graceful_timeout"]
    outermost = load_config({"DRAIN_SECONDS": str(drain)}, tmp_path / "none").stop_seconds
    assert drain < drain + LAST_BYTES_SECONDS < gunicorn < outermost
    nginx = re.search(r"^worker_shutdown_timeout (\d+)s;", (ROOT / "nginx" / "nginx.conf").read_text(), re.MULTILINE)
    assert nginx is not None
    assert int(nginx[1]) > gunicorn, "told to stop first, it cuts what still streams then"


def test_wrong_settings_are_said_in_words() -> None:
    done = subprocess.run(
        COMMAND, check=False, cwd=ROOT, env=environment(MAX_WAITING="some"), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "MAX_WAITING='some'" in done.stderr
    assert "Traceback" not in done.stderr


def test_gpus_that_could_hold_the_model_and_cannot_be_used_end_the_start(tmp_path: Path) -> None:
    """Only the driver is made up. Run where torch has no GPU."""
    environ = environment(MODEL="auto", CUDA_VISIBLE_DEVICES="0,1", **driver_environment(tmp_path, [24, 24]))
    done = subprocess.run(
        COMMAND, check=False, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 3
    assert "cannot start: deepseek-coder-v2-lite is not served: " in done.stdout + done.stderr
    assert "MODEL=smollm2-135m serves the small model on purpose" in done.stdout + done.stderr


def test_another_order_of_gpus_ends_the_start() -> None:
    done = subprocess.run(
        COMMAND,
        check=False,
        cwd=ROOT,
        env=environment(CUDA_DEVICE_ORDER="FASTEST_FIRST"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3
    assert "CUDA_DEVICE_ORDER=FASTEST_FIRST" in done.stdout + done.stderr


def test_two_workers_are_refused() -> None:
    done = subprocess.run(
        [*COMMAND, "--workers", "2"],
        check=False,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode != 0
    assert "exactly one worker" in done.stderr


def test_no_signal_starts_a_second_worker() -> None:
    """HUP, TTIN and USR2 are ignored: their bits are set in the mask that the kernel shows."""
    environ = environment()
    application = "tests.support.asgi:application"
    with subprocess.Popen([*COMMAND, application], cwd=ROOT, env=environ, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for_port(int(environ["APP_PORT"]))
            status = Path(f"/proc/{process.pid}/status")

            def ignored(number: signal.Signals) -> bool:
                found = re.search(r"^SigIgn:\s*([0-9a-f]+)$", status.read_text(encoding="ascii"), re.MULTILINE)
                return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)

            for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR2):
                await_true(lambda number=number: ignored(number), f"{number.name} being ignored")  # type: ignore[misc]  # mypy infers no type of a lambda with a default
            assert not ignored(signal.SIGTERM)
        finally:
            process.terminate()
        assert process.wait(PATIENCE) == 0
