"""Every record, ours or a library's, is one JSON line on standard output."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import warnings
from http.client import HTTPConnection
from pathlib import Path

import orjson
import pytest
import structlog

from app.observability.log.logging import EXCEPTION_LIMIT, FIELD_LIMIT
from tests.unit.observability.conftest import Configure


def test_our_lines_carry_time_level_logger_and_the_request_id(configure: Configure) -> None:
    lines = configure()
    structlog.contextvars.bind_contextvars(request_id="req-9")
    structlog.stdlib.get_logger("app.serving").info("admitted", tokens=12)
    (line,) = lines()
    assert list(line)[:5] == ["timestamp", "level", "logger", "event", "request_id"]
    assert line["timestamp"].endswith("Z")
    del line["timestamp"]
    assert line == {
        "level": "info",
        "logger": "app.serving",
        "event": "admitted",
        "request_id": "req-9",
        "tokens": 12,
    }


def test_the_standard_librarys_records_go_the_same_way_with_their_extra_fields(configure: Configure) -> None:
    lines = configure()
    structlog.contextvars.bind_contextvars(request_id="req-9")
    logging.getLogger("somebody.else").warning("%d files", 3, extra={"folder": "/models"})
    (line,) = lines()
    assert line["event"] == "3 files"
    assert line["logger"] == "somebody.else"
    assert line["level"] == "warning"
    assert line["folder"] == "/models"
    assert line["request_id"] == "req-9"


def test_warnings_are_lines_too(configure: Configure) -> None:
    lines = configure()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # pytest has put its own hook in place: ours goes on top
        logging.captureWarnings(capture=True)
        warnings.warn("it will go away", FutureWarning, stacklevel=1)
    (line,) = lines()
    assert line["logger"] == "py.warnings"
    assert "it will go away" in line["event"]


def _fail() -> None:
    raise RuntimeError("x" * 100_000 + " the end")


@pytest.mark.parametrize(
    "own", [structlog.stdlib.get_logger("app"), logging.getLogger("other")], ids=["ours", "theirs"]
)
def test_an_exception_is_one_bounded_field(configure: Configure, own: logging.Logger) -> None:
    lines = configure()
    try:
        _fail()
    except RuntimeError:
        own.exception("it failed")
    (line,) = lines()
    assert line["event"] == "it failed"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("the end")
    assert len(line["exception"]) < EXCEPTION_LIMIT + 100


def test_the_level_holds_for_everybody(configure: Configure) -> None:
    lines = configure(log_level="warning")
    structlog.stdlib.get_logger("app").info("quiet")
    logging.getLogger("other").info("quiet")
    logging.getLogger("other").error("loud")
    assert [line["event"] for line in lines()] == ["loud"]


def test_debug_has_no_thousands_of_lines_of_a_compiler(configure: Configure) -> None:
    read = configure(log_level="debug")
    logging.getLogger("numba.core.ssa").debug("one block")
    logging.getLogger("numba").warning("something to know")
    assert [line["event"] for line in read()] == ["something to know"]


def test_no_field_is_longer_than_its_limit_and_no_text_can_break_a_line(configure: Configure) -> None:
    lines = configure()
    forged = '\n{"level": "error", "event": "forged"}\n\u2028\ud800'
    logging.getLogger("other").info("hello", extra={"long": "y" * 1_000_000, "forged": forged, "thing": object()})
    (line,) = lines()
    assert len(line["long"]) < FIELD_LIMIT + 100
    assert line["long"].endswith("more characters]")
    assert line["forged"] == forged.replace("\ud800", "\\ud800")


def test_a_line_holds_nothing_that_a_terminal_would_obey(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    """C1 (here CSI), DEL, an override of direction, an invisible tag beyond the basic plane, a private character."""
    configure()
    capsys.readouterr()
    text = "é 你 \x1b[2J \x9b2J \x7f \u202e \U000e0041 \ue000 \x85"
    logging.getLogger("other").info("hello", extra={"thing": text})
    raw = capsys.readouterr().out
    assert raw.rstrip("\n").isprintable()
    assert "é 你" in raw
    assert json.loads(raw)["thing"] == text


def test_configuring_again_does_not_double_the_lines(configure: Configure) -> None:
    configure()
    lines = configure()
    logging.getLogger("other").info("once")
    assert len(lines()) == 1


LIBRARIES = """
import logging
from app.observability.log.logging import configure_logging
from app.settings import Settings

configure_logging(Settings(_env_file=None))
import transformers.utils.logging  # gives itself a handler now, which is after us
transformers.utils.logging.get_logger("transformers.models").warning("from transformers")
import huggingface_hub.utils
huggingface_hub.utils.logging.get_logger("huggingface_hub.x").warning("from the hub")
"""


def test_a_library_that_is_imported_later_cannot_bring_its_own_handler() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}  # transformers looks at it
    done = subprocess.run(
        [sys.executable, "-c", LIBRARIES], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    lines = [orjson.loads(line) for line in done.stdout.splitlines()]
    found = [(line["logger"], line["event"]) for line in lines]
    assert ("transformers.models", "from transformers") in found
    assert ("huggingface_hub.x", "from the hub") in found
    assert len(found) == len(set(found))
    assert "from transformers" not in done.stderr
    assert "from the hub" not in done.stderr


APP = """
from app.observability.log.logging import configure_logging
from app.settings import load_settings

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive(); await send({"type": "lifespan.startup.complete"})
        await receive(); await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/boom":
        raise RuntimeError("boom")
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})

def create():
    configure_logging(load_settings(None))
    return app
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_gunicorn_and_uvicorn_say_nothing_that_is_not_a_line(tmp_path: Path) -> None:
    """The real ones, from start to SIGTERM, with a request that fails in between."""
    (tmp_path / "tiny.py").write_text(APP)
    port = _free_port()
    command = [sys.executable, "-m", "gunicorn", "tiny:create()", "--worker-class", "uvicorn_worker.UvicornWorker"]
    command += ["--logger-class", "app.observability.log.gunicorn_log.GunicornLogger", "--bind", f"127.0.0.1:{port}"]
    command += ["--no-control-socket", "--worker-tmp-dir", "/dev/shm"]  # noqa: S108  # as the stack does
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        try:
            seen = [""]
            while "startup complete" not in seen[-1]:
                seen.append(server.stdout.readline())
                assert seen[-1], f"gunicorn ended: {server.stderr.read() if server.stderr else ''}"
            statuses = []
            for path in ("/", "/boom"):
                connection = HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("GET", path)
                statuses.append(connection.getresponse().status)
                connection.close()
            assert statuses == [204, 500]
        finally:
            server.send_signal(signal.SIGTERM)
            out, err = server.communicate(timeout=30)
    lines = [orjson.loads(line) for line in [*seen[1:], *out.splitlines()]]
    assert err == ""
    assert {line["logger"] for line in lines} >= {"gunicorn.error", "uvicorn.error"}
    assert any(line["event"].startswith("Starting gunicorn") for line in lines)
    assert any("RuntimeError: boom" in line.get("exception", "") for line in lines)
    assert not any(line["logger"].endswith("access") for line in lines)
    assert not any("color_message" in line for line in lines)
