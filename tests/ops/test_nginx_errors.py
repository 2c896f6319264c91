"""The errors that nginx makes itself, each in the form of its path's clients."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from stack.host.ports import free_ports
from tests.support.anthropic_types import read_error
from tests.support.patience import PATIENCE
from tests.support.proxy import NEEDS_NGINX, Proxy, Upstream, running

pytestmark = NEEDS_NGINX

OPENAI = [
    "/v1/chat/completions",
    "/v1/chat/completions/render",
    "/v1/completions",
    "/v1/responses",
    "/infill",
    "/v1/fim/completions",
    "/v1/models",
    "/v1/models/smollm2-135m",
    "/tokenize",
    "/detokenize",
    "/openapi.json",
]
CLASSIC = ["/", "/livez", "/v1x", "/somewhere/v1/models"]


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
            "message": "The request body is larger than this server accepts.",
            "type": "invalid_request_error",
            "param": None,
            "code": "body_too_large",
        }
    }
    assert headers["X-Request-ID"]
    assert upstream.seen.empty()


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


def test_without_the_app_it_is_a_503_with_retry_after(orphan: Proxy) -> None:
    status, headers, body = orphan.ask("POST", "/", b"{}")
    assert status == 503
    assert int(headers["Retry-After"]) > 0
    answer = json.loads(body)
    assert (answer["status"], answer["error"]["code"]) == (503, "app_unavailable")
    assert orphan.access(headers["X-Request-ID"])["status"] == 503


@pytest.mark.parametrize("path", OPENAI)
def test_without_the_app_openais_clients_get_their_form(orphan: Proxy, path: str) -> None:
    status, headers, body = orphan.ask("POST", path, b"{}")
    assert status == 503
    assert int(headers["Retry-After"]) > 0
    error = json.loads(body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("server_error", "app_unavailable", None)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/messages?beta=true"])
def test_without_the_app_anthropics_clients_get_their_form(orphan: Proxy, path: str) -> None:
    status, headers, body = orphan.ask("POST", path, b"{}")
    assert (status, int(headers["Retry-After"]) > 0) == (503, True)
    told = json.loads(body)
    assert read_error(told).error.type == "overloaded_error"
    assert told["error"]["code"] == "app_unavailable"
    assert told["request_id"] == headers["Request-ID"] == headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("method", "path", "size", "told"),
    [
        ("POST", "/v1/messages", 100_001, (413, "request_too_large")),
        ("POST", "/v1/messages/batches", 2, (404, "not_found_error")),
        ("TRACE", "/v1/messages", 0, (405, "invalid_request_error")),
    ],
)
def test_what_nginx_refuses_has_anthropics_kind(
    proxy: Proxy, method: str, path: str, size: int, told: tuple[int, str]
) -> None:
    status, _, body = proxy.ask(method, path, b"x" * size or None)
    read_error(json.loads(body))
    assert (status, json.loads(body)["error"]["type"]) == told


@pytest.mark.parametrize("path", CLASSIC)
def test_every_other_path_has_the_classic_envelope(orphan: Proxy, path: str) -> None:
    status, _, body = orphan.ask("POST", path, b"{}")
    assert json.loads(body)["status"] == status
    assert status in (404, 503)


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


@pytest.mark.parametrize(("path", "kind"), [("/", None), ("/v1/chat/completions", "invalid_request_error")])
def test_headers_that_are_too_large_are_a_431(proxy: Proxy, upstream: Upstream, path: str, kind: str | None) -> None:
    status, headers, body = proxy.ask("POST", path, b"{}", {"X-Long": "a" * 40_000})
    error = json.loads(body)["error"]
    assert (status, error["code"], error.get("type")) == (431, "invalid_request", kind)
    assert headers["X-Request-ID"]
    assert upstream.seen.empty()


def test_an_address_that_is_too_long_is_a_414_in_the_classic_form(proxy: Proxy, upstream: Upstream) -> None:
    """nginx does not read it, and so knows no path."""
    status, _, body = proxy.ask("GET", f"/v1/models/{'a' * 40_000}")
    answer = json.loads(body)
    assert (status, answer["status"], answer["error"]["code"]) == (414, 414, "invalid_request")
    assert upstream.seen.empty()
