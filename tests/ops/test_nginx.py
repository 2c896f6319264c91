"""nginx: what it lets through to the app, and how."""

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from app.local_engine import MOST_SEQUENCES
from app.settings import Settings
from tests.support.patience import PATIENCE
from tests.support.proxy import NEEDS_NGINX, Proxy, Upstream, reply, say_ok

pytestmark = NEEDS_NGINX


def test_lint_finds_nothing(proxy: Proxy) -> None:
    """gixy's checks, less two that this proxy breaks on purpose."""
    on_purpose = (
        "proxy_buffering_off",  # streams: a piece goes out when it comes in
        "status_page_exposed",  # the internal listener is on loopback or on the containers' own network
    )
    gixy = Path(sys.executable).with_name("gixy")
    done = subprocess.run(
        [gixy, "--skips", ",".join(on_purpose), proxy.folder / "nginx.conf"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "No issues found" in done.stdout


def test_one_address_may_use_every_place_of_the_app(proxy: Proxy) -> None:
    """A gateway in front of us is one address; its requests are refused by the app, which says when to come again."""
    limits = re.findall(
        r"^\s*limit_conn connections (\d+);", (proxy.folder / "conf.d" / "server.conf").read_text(), re.MULTILINE
    )
    assert limits
    assert min(map(int, limits)) > MOST_SEQUENCES + Settings(_env_file=None).max_waiting


KNOWN = [
    ("POST", "/"),
    ("GET", "/"),
    ("GET", "/playground/0123456789abcdef/page/js/main.js"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/chat/completions/render"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/infill"),
    ("POST", "/v1/fim/completions"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages?beta=true"),
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/smollm2-135m"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/openapi.json"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/health"),
    ("GET", "/startupz"),
]


@pytest.mark.parametrize(("method", "path"), KNOWN)
def test_known_paths_reach_the_app(proxy: Proxy, upstream: Upstream, method: str, path: str) -> None:
    status, _, _ = proxy.ask(method, path, b"{}" if method == "POST" else None)
    assert status == 200
    assert upstream.seen.get_nowait()[0] == f"{method} {path}"


HIDDEN = [
    "/metrics",
    "/metrics/",
    "//metrics",
    "/livez/../metrics",
    "/playground/../metrics",
    "/playground/%2e%2e/metrics",
    "/playground",
    "/docs",
    "/stub_status",
    "/_error/404",
]


@pytest.mark.parametrize("path", [*HIDDEN, "/v1x", "/V1/models", "/tokenize.json", "/x/v1/models"])
def test_everything_else_is_a_404_that_the_app_never_sees(proxy: Proxy, upstream: Upstream, path: str) -> None:
    status, headers, body = proxy.ask("GET", path)
    assert status == 404
    assert headers["Content-Type"] == "application/json"
    answer = json.loads(body)
    assert answer["status"] == 404
    assert answer["error"]["code"] == "not_found"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", answer["time"])
    assert upstream.seen.empty()


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/embeddings",
        "/v1/chat",
        "/v1/models/../../metrics?a=b",
    ],
)
def test_what_openais_clients_get_from_an_unknown_path(proxy: Proxy, upstream: Upstream, path: str) -> None:
    status, headers, body = proxy.ask("POST", path, b"{}")
    assert status == 404
    assert headers["Content-Type"] == "application/json"
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", "not_found")
    assert upstream.seen.empty()


@pytest.mark.parametrize("path", ["/v1/models/a%2Fb", "/v1/models/a%20b?x=1"])
def test_a_models_name_arrives_as_it_was_sent(proxy: Proxy, upstream: Upstream, path: str) -> None:
    proxy.ask("GET", path)
    assert upstream.seen.get_nowait()[0] == f"GET {path}"


def test_the_internal_listener_has_the_status_and_the_public_one_has_not(proxy: Proxy) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.internal_port, timeout=PATIENCE)
    connection.request("GET", "/stub_status")
    assert b"Active connections" in connection.getresponse().read()
    connection.close()


def test_the_request_id_is_ours_in_the_app_and_in_the_log(proxy: Proxy, upstream: Upstream) -> None:
    upstream.answer = lambda request: reply(request, 200, b"{}", X_Request_ID=request.headers["X-Request-ID"])
    forged = {"X-Request-ID": "forged", "X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
    _, headers, _ = proxy.ask("POST", "/?secret=word", b'{"prompt": "private"}', forged)
    _, received, _ = upstream.seen.get_nowait()
    assert re.fullmatch("[0-9a-f]{32}", received["X-Request-ID"])
    assert received["X-Forwarded-For"] == "127.0.0.1"
    assert "Forwarded" not in received
    assert headers.get_all("X-Request-ID") == [received["X-Request-ID"]]

    line = proxy.access(received["X-Request-ID"])
    assert (line["method"], line["path"], line["status"], line["upstream_status"]) == ("POST", "/", 200, 200)
    assert all(
        isinstance(line[name], float | int) for name in ("duration_s", "upstream_connect_s", "upstream_response_s")
    )
    assert "private" not in json.dumps(line)
    assert "secret" not in json.dumps(line)


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "until the end of the connection"])
def test_a_stream_passes_piece_by_piece(proxy: Proxy, upstream: Upstream, chunked: bool, path: str) -> None:
    """Each piece is written only after the client has read the one before: a buffer would wait for ever."""
    was_read = threading.Semaphore(0)
    pieces = [b"data: %d\n\n" % number for number in range(5)]

    def stream(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")))
        request.end_headers()
        for piece in pieces:
            request.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            assert was_read.acquire(timeout=PATIENCE)
        request.wfile.write(b"0\r\n\r\n" if chunked else b"")

    upstream.answer = stream
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
    connection.request("POST", path, b"{}")
    response = connection.getresponse()
    for piece in pieces:
        assert response.read1() == piece
        was_read.release()
    assert response.read() == b""
    connection.close()


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/v1/completions"])
def test_a_client_that_leaves_is_noticed_by_the_app(proxy: Proxy, upstream: Upstream, path: str) -> None:
    left = threading.Event()

    def wait_for_the_end(request: BaseHTTPRequestHandler) -> None:
        request.connection.settimeout(PATIENCE)
        if request.connection.recv(1) == b"":
            left.set()
        request.close_connection = True

    upstream.answer = wait_for_the_end
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client:
        client.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}" % path.encode())
        upstream.seen.get(timeout=PATIENCE)
    assert left.wait(PATIENCE)


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions"])
@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_the_apps_errors_pass_untouched(proxy: Proxy, upstream: Upstream, status: int, path: str) -> None:
    upstream.answer = lambda request: reply(request, status, b'{"own": "words"}', Retry_After="17")
    got, headers, body = proxy.ask("POST", path, b"{}")
    assert (got, body) == (status, b'{"own": "words"}')
    assert headers.get_all("Retry-After") == ["17"]


def test_a_body_of_the_allowed_size_arrives_and_never_touches_the_disk(proxy: Proxy, upstream: Upstream) -> None:
    written: list[Path] = []

    def look_at_the_disk(request: BaseHTTPRequestHandler) -> None:
        written.extend(path for path in proxy.folder.glob("temp-*/**/*") if path.is_file())
        say_ok(request)

    upstream.answer = look_at_the_disk
    status, _, _ = proxy.ask("POST", "/", b"x" * 100_000)
    assert status == 200
    assert len(upstream.seen.get_nowait()[2]) == 100_000
    assert written == []
