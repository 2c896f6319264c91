"""nginx's access log: one JSON line per request, in the form of the app's lines, whatever a client sends."""

import json
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from stack.host.ports import free_ports
from tests.support.patience import PATIENCE
from tests.support.proxy import NEEDS_NGINX, Proxy, Upstream, reply, running

pytestmark = NEEDS_NGINX


@pytest.fixture
def proxy(upstream: Upstream, tmp_path: Path) -> Iterator[Proxy]:
    """One of its own for each test: the next line is that of its request."""
    with running(tmp_path, upstream.port) as started:
        yield started


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[Proxy]:
    with running(tmp_path, free_ports(1)[0]) as started:
        yield started


def send(proxy: Proxy, head: bytes) -> bytes:
    """The whole answer to a request that no client library would send."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client:
        client.sendall(head + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65_536), b""))


def next_line(proxy: Proxy) -> dict[str, Any]:
    while True:
        line = proxy.log.get(timeout=PATIENCE)
        if '"event":"access"' in line:
            parsed = json.loads(line)
            assert isinstance(parsed, dict)
            return parsed


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        (b"curl/8.0", "curl/8.0"),
        (b"caf\xe9 1.0", "caf�"),
        ("café 1.0".encode(), "caf�"),
        (b"\xff", "�"),
        (b'a"b\\c', 'a"b\\c'),
        (b"a\x9b2Jb\x7f", "a�"),
        (b"a\x1bb", "a�"),
        (b"", ""),
    ],
)
def test_any_user_agent_leaves_a_line_of_ascii_and_json(proxy: Proxy, sent: bytes, logged: str) -> None:
    send(proxy, b"GET /v1/models HTTP/1.1\r\nUser-Agent: " + sent)
    assert next_line(proxy)["user_agent"] == logged


@pytest.mark.parametrize(
    ("sent", "logged"),
    [
        (b"/v1/models/a%C3%A9?secret=1", "/v1/models/a%C3%A9"),
        (b"/v1/models/caf\xe9/b", "/v1/models/caf�"),
        (b"/v1/models?caf\xe9", "/v1/models"),
        (b'/v1/models/a"b', '/v1/models/a"b'),
    ],
)
def test_any_path_leaves_a_line_of_json(proxy: Proxy, sent: bytes, logged: str) -> None:
    send(proxy, b"GET " + sent + b" HTTP/1.1")
    assert next_line(proxy)["path"] == logged


@pytest.mark.parametrize("wrong", [b"Content-Length: x", b"Transfer-Encoding: x", b"Content-Length: 1\r\nA b"])
def test_the_method_is_the_clients_also_where_nginx_answers(proxy: Proxy, wrong: bytes) -> None:
    send(proxy, b"POST /v1/completions HTTP/1.1\r\n" + wrong)
    line = next_line(proxy)
    assert line["status"] >= 400
    assert line["method"] == "POST"


def test_its_time_is_utc_in_the_apps_form_wherever_the_machine_is(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    with running(tmp_path, upstream.port) as proxy:
        before = datetime.now(UTC)
        proxy.ask("GET", "/v1/models")
        written = next_line(proxy)["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", written)
    assert before - timedelta(seconds=1) < datetime.fromisoformat(written) < datetime.now(UTC) + timedelta(seconds=1)


def test_every_month_has_its_number(proxy: Proxy) -> None:
    """Real time has one of them."""
    rules = re.findall(r"-([A-Z][a-z]{2})-.*\$y-(\d\d)-", (proxy.folder / "snippets" / "log.conf").read_text())
    months = [datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 13)]
    assert rules == [(f"{month:%b}", f"{month:%m}") for month in months]


@pytest.mark.parametrize(("status", "level"), [(200, "info"), (404, "info"), (429, "warning"), (500, "error")])
def test_levels_are_those_of_the_app(proxy: Proxy, upstream: Upstream, status: int, level: str) -> None:
    upstream.answer = lambda request: reply(request, status, b"{}")
    proxy.ask("POST", "/", b"{}")
    line = next_line(proxy)
    assert (line["level"], line["completed"], line["service"]) == (level, True, "nginx")


def test_an_answer_that_did_not_arrive_is_not_complete(proxy: Proxy, upstream: Upstream) -> None:
    begun = threading.Event()

    def begin(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        begun.set()
        request.connection.settimeout(PATIENCE)
        request.connection.recv(1)
        request.close_connection = True

    upstream.answer = begin
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        assert begun.wait(PATIENCE)
    assert next_line(proxy)["completed"] is False


PROBES = ["/livez", "/readyz", "/health", "/startupz", "/startupz/", "//livez", "/livez?a=b"]


@pytest.mark.parametrize("path", PROBES)
def test_probes_have_no_line_while_the_app_starts_either(orphan: Proxy, path: str) -> None:
    assert orphan.ask("GET", path)[0] == 503
    orphan.ask("GET", "/v1/models")
    assert next_line(orphan)["path"] == "/v1/models"


@pytest.mark.parametrize("path", PROBES)
def test_probes_that_the_app_answers_have_no_line(proxy: Proxy, path: str) -> None:
    assert proxy.ask("GET", path)[0] == 200
    proxy.ask("GET", "/v1/models")
    assert next_line(proxy)["path"] == "/v1/models"


@pytest.mark.parametrize(
    ("address", "form"),
    [
        (b"/?q=\xff", "classic"),
        (b"/startupz?\x80", "classic"),
        (b"/v1/models?q=\xff", "openai"),
        (b"/v1/models/caf\xe9/", "openai"),
        ("/v1/models?q=é".encode(), "openai"),
        (b"/v1/messages?\xff", "anthropic"),
    ],
)
def test_an_address_that_is_not_ascii_is_refused_in_our_form(
    proxy: Proxy, upstream: Upstream, address: bytes, form: str
) -> None:
    head, _, body = send(proxy, b"GET " + address + b" HTTP/1.1").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    told = json.loads(body)
    assert told["error"]["code"] == "invalid_request"
    assert "%XX" in told["error"]["message"]
    assert ("status" in told, told.get("type")) == (form == "classic", "error" if form == "anthropic" else None)
    assert re.search(rb"\r\nX-Request-ID: [0-9a-f]{32}\r\n", head)
    assert upstream.seen.empty()


@pytest.mark.parametrize("address", [b"/_error/\xff", b"/_error/400?\xff"])
def test_the_error_pages_have_no_address_of_their_own(proxy: Proxy, upstream: Upstream, address: bytes) -> None:
    head, _, body = send(proxy, b"GET " + address + b" HTTP/1.1").partition(b"\r\n\r\n")
    assert head.split()[1] in (b"400", b"404")
    assert json.loads(body)["error"]["code"] in ("invalid_request", "not_found")
    assert upstream.seen.empty()


@pytest.mark.parametrize(
    "head", [b"GET /v1/models HTTP/2.0", b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip"], ids=["version", "coding"]
)
def test_what_nginx_does_not_speak_is_refused_in_our_form(proxy: Proxy, head: bytes) -> None:
    answer, _, body = send(proxy, head).partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "invalid_request"
    assert b"\r\nX-Request-ID: " in answer
