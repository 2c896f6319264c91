"""nginx, rendered from our templates and run for real, in front of a small upstream that the test plays."""

import http.client
import json
import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from docker.stack.ports import free_ports
from tests.support.proxy import PATIENCE, Proxy, Upstream, played, reply, running, say_ok

pytestmark = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") is None and os.environ.get("CI") != "true",
    reason="nginx is not installed: `make test` as root installs it",
)


@pytest.fixture(scope="module")
def _server() -> Iterator[Upstream]:
    with played() as started:
        yield started


@pytest.fixture
def upstream(_server: Upstream) -> Upstream:
    """The app's part, fresh for each test."""
    _server.answer = say_ok
    _server.seen = queue.Queue()
    return _server


@pytest.fixture(scope="module")
def proxy(_server: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(tmp_path_factory.mktemp("nginx"), _server.port) as started:
        yield started


@pytest.fixture(scope="module")
def orphan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy whose app does not run."""
    with running(tmp_path_factory.mktemp("orphan"), free_ports(1)[0]) as started:
        yield started


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


KNOWN = [
    ("POST", "/"),
    ("GET", "/"),
    ("GET", "/playground/0123456789abcdef/page/js/main.js"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/chat/completions/render"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/smollm2-135m"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/openapi.json"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/startupz"),
]
OPENAI = [path for _, path in KNOWN if path.startswith(("/v1/", "/tokenize", "/detokenize", "/openapi.json"))]
CLASSIC = ["/", "/livez", "/v1x", "/somewhere/v1/models"]


@pytest.mark.parametrize(("method", "path"), KNOWN)
def test_known_paths_reach_the_app(proxy: Proxy, upstream: Upstream, method: str, path: str) -> None:
    status, _, _ = proxy.ask(method, path, b"{}" if method == "POST" else None)
    assert status == 200
    assert upstream.seen.get_nowait()[0] == f"{method} {path}"


HIDDEN = [
    "/metrics",
    "/metrics/",
    "//metrics",
    "/livez/",
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
        "/v1/chat/completions/",
        "/v1/chat",
        "/tokenize/",
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
    assert all(isinstance(line[name], float | int) for name in ("duration", "upstream_connect", "upstream_response"))
    assert "private" not in json.dumps(line)
    assert "secret" not in json.dumps(line)


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/v1/completions"])
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


def test_a_body_that_is_too_large_is_a_413(proxy: Proxy, upstream: Upstream) -> None:
    status, headers, body = proxy.ask("POST", "/", b"x" * 100_001)
    assert status == 413
    assert json.loads(body)["error"]["code"] == "body_too_large"
    assert headers["X-Request-ID"]
    assert upstream.seen.empty()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/tokenize"])
def test_a_body_that_is_too_large_has_openais_form(proxy: Proxy, upstream: Upstream, path: str) -> None:
    status, headers, body = proxy.ask("POST", path, b"x" * 100_001)
    assert status == 413
    assert json.loads(body) == {
        "error": {
            "message": "The request body is larger than this server takes.",
            "type": "invalid_request_error",
            "param": None,
            "code": "body_too_large",
        }
    }
    assert headers["X-Request-ID"]
    assert upstream.seen.empty()


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


@pytest.mark.parametrize(
    ("path", "allowed", "kind"),
    [
        ("/", "GET, HEAD, POST", None),
        ("/livez", "GET, HEAD", None),
        ("/v1/models/a", "GET", "invalid_request_error"),
        ("/v1/chat/completions?a=b", "POST", "invalid_request_error"),
        ("/detokenize", "POST", "invalid_request_error"),
    ],
)
def test_a_method_that_nginx_refuses_is_a_405(proxy: Proxy, path: str, allowed: str, kind: str | None) -> None:
    status, headers, body = proxy.ask("TRACE", path)
    assert (status, headers["Allow"]) == (405, allowed)
    error = json.loads(body)["error"]
    assert (error["code"], error.get("type")) == ("method_not_allowed", kind)


def test_what_is_no_http_is_a_400(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client:
        client.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_request"


def test_without_the_app_it_is_a_502_with_retry_after(orphan: Proxy) -> None:
    status, headers, body = orphan.ask("POST", "/", b"{}")
    assert status == 502
    assert int(headers["Retry-After"]) > 0
    answer = json.loads(body)
    assert (answer["status"], answer["error"]["code"]) == (502, "app_unavailable")
    assert orphan.access(headers["X-Request-ID"])["status"] == 502


@pytest.mark.parametrize("path", OPENAI)
def test_without_the_app_openais_clients_get_their_form(orphan: Proxy, path: str) -> None:
    status, headers, body = orphan.ask("POST", path, b"{}")
    assert status == 502
    assert int(headers["Retry-After"]) > 0
    error = json.loads(body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "app_unavailable", None)


@pytest.mark.parametrize("path", CLASSIC)
def test_every_other_path_has_the_classic_envelope(orphan: Proxy, path: str) -> None:
    status, _, body = orphan.ask("POST", path, b"{}")
    assert json.loads(body)["status"] == status
    assert status in (404, 502)


def test_an_app_that_does_not_answer_in_time_is_a_504(upstream: Upstream, tmp_path: Path) -> None:
    """The proxy waits 30 seconds longer than REQUEST_TIMEOUT: here a second in all."""
    given_up = threading.Event()

    def answer_too_late(request: BaseHTTPRequestHandler) -> None:
        given_up.wait(PATIENCE)
        request.close_connection = True

    upstream.answer = answer_too_late
    with running(tmp_path, upstream.port, PROXY_READ_TIMEOUT="1s") as impatient:
        status, headers, body = impatient.ask("POST", "/v1/completions", b"{}")
        given_up.set()
    assert (status, headers["Retry-After"]) == (504, "30")
    assert json.loads(body)["error"]["code"] == "deadline_exceeded"


@pytest.mark.parametrize(("path", "kind"), [("/livez", None), ("/v1/models", "rate_limit_error")])
def test_a_flood_from_one_address_is_a_429_with_retry_after(tmp_path: Path, path: str, kind: str | None) -> None:
    """All in one write: they arrive within milliseconds, many more than the burst."""
    flood = 1_000
    line = b"GET %s HTTP/1.1\r\nHost: x\r\n" % path.encode()
    ask = (line + b"\r\n") * (flood - 1) + line + b"Connection: close\r\n\r\n"
    with (
        running(tmp_path, free_ports(1)[0]) as orphan,
        socket.create_connection(("127.0.0.1", orphan.port), timeout=PATIENCE) as client,
    ):
        sender = threading.Thread(target=client.sendall, args=(ask,))
        sender.start()
        answers = b"".join(iter(lambda: client.recv(65_536), b""))
        sender.join(PATIENCE)
    refused = answers.split(b"HTTP/1.1 429 ")[1:]
    assert refused
    assert b"\r\nRetry-After: 1\r\n" in refused[0]
    error = json.loads(refused[0].partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1")[0])["error"]
    assert (error["code"], error.get("type")) == ("overloaded", kind)
