"""With LOG_CONTENT=off nothing of a conversation is in anything that leaves the app, but its answer."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from app.contract.options import LogContent
from app.contract.telemetry import Observers
from app.engine.grammars.compiler import Grammars
from app.keys.record import hash_of
from app.main import create_app
from app.observability.log.logging import configure_logging
from app.observability.log.request_log import LogObserver
from app.observability.metrics.observer import Metrics
from app.observability.tracing import to_collector
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from tests.support.collector import Collector, collector
from tests.support.controlled import ControlledEngine

MARKER = "zq7-planted-marker"
USER = {"role": "user", "content": MARKER}
TOOL = {"type": "function", "function": {"name": "look", "description": MARKER, "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"kind": {"enum": [MARKER]}}, "required": ["kind"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "kinds", "schema": SCHEMA}}
CHAT = "/v1/chat/completions"

REQUESTS: list[tuple[str, dict[str, object], int]] = [
    ("/", {"prompt": MARKER, "history": [[MARKER, MARKER]]}, 200),
    (CHAT, {"messages": [{"role": "system", "content": MARKER}, USER], "stop": [MARKER], "n": 2}, 200),
    (CHAT, {"messages": [USER], "tools": [TOOL]}, 200),
    (CHAT, {"messages": [USER], "response_format": FORMAT, "max_tokens": 64}, 200),
    (CHAT, {"messages": [USER], "stream": True}, 200),
    ("/v1/completions", {"prompt": [MARKER, MARKER], "echo": True, "logprobs": 1}, 200),
    ("/v1/responses", {"input": MARKER, "instructions": MARKER}, 200),
    ("/v1/messages", {"messages": [USER], "max_tokens": 4}, 200),
    ("/", {"prompt": MARKER, "temperature": MARKER}, 400),
    (CHAT, {"messages": [{"role": MARKER, "content": MARKER}]}, 400),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": MARKER, "text": MARKER}]}]}, 400),
    (CHAT, {"messages": [USER], "temperature": MARKER}, 400),
    (CHAT, {"messages": [USER], "tools": [TOOL], "tool_choice": {"type": MARKER}}, 400),
    (CHAT, {"messages": [USER], "response_format": {"type": "json_schema", "json_schema": MARKER}}, 400),
    ("/v1/completions", {"prompt": f"{MARKER} " * 3000}, 400),
    ("/v1/responses", {"input": [{"type": "message", "role": MARKER, "content": MARKER}]}, 400),
    ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": MARKER}]}], "max_tokens": 4}, 400),
]


@pytest.fixture
def collecting() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture
def quiet_again() -> Iterator[None]:
    root = logging.root
    handlers, level = root.handlers, root.level
    yield
    sys.stdout.flush()
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.usefixtures("quiet_again")
def test_a_planted_marker_is_in_no_line_metric_span_or_error(
    prompts: Prompts, grammars: Grammars, collecting: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        log_content="off", log_level="debug", otel_exporter_otlp_endpoint=collecting.address, _env_file=None
    )
    configure_logging(settings)
    metrics, traces = Metrics(CollectorRegistry()), to_collector(settings)
    assert traces is not None
    observers = Observers([LogObserver(settings), metrics, traces])

    engine = ControlledEngine(grammars=grammars)
    client = TestClient(create_app(settings, engine, prompts, observers, metrics.render, close=traces.close))
    refusals: list[str] = []
    with client:
        for path, body, status in REQUESTS:
            named = body if path == "/" else {"model": "scripted", **body}
            answer = client.post(path, json=named)
            assert answer.status_code == status, (path, answer.text)
            if status >= 400:
                refusals.append(answer.text)
        exposition = client.get("/metrics").text
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(line["event"] == "request" for line in lines) == len(REQUESTS)
    assert MARKER not in json.dumps(lines)
    assert MARKER not in "".join(refusals)
    assert MARKER not in exposition
    assert collecting.bodies
    assert not any(MARKER.encode() in body for body in collecting.bodies)


@pytest.mark.usefixtures("quiet_again")
@pytest.mark.parametrize(("server", "key"), [("off", None), ("full", "off")])
def test_a_library_that_quotes_a_prompt_is_not_quoted(
    server: str,
    key: str | None,
    *,
    prompts: Prompts,
    grammars: Grammars,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "keys"
    said = {"name": "anna", "sha256": hash_of("the-key"), **({"log_content": key} if key else {})}
    file.write_text(json.dumps(said) + "\n", encoding="utf-8")
    settings = Settings(log_content=LogContent(server), api_keys_file=file, _env_file=None)
    configure_logging(settings)

    def fail(*_: object) -> None:
        raise ValueError(f"cannot render {MARKER}")

    monkeypatch.setattr(prompts, "prepare", fail)
    app = create_app(settings, ControlledEngine(grammars=grammars), prompts, Observers([LogObserver(settings)]))
    with TestClient(app, raise_server_exceptions=False) as client:
        body = {"model": "scripted", "messages": [USER]}
        answer = client.post(CHAT, json=body, headers={"authorization": "Bearer the-key"})
    assert answer.status_code == 500
    told = capsys.readouterr().out
    assert "in fail" in told, "the way to the error is in the log"
    assert MARKER not in told
    assert MARKER not in answer.text
