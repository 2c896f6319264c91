"""nginx in front of several boxes: which one is asked, and when another one is asked instead."""

import http.client
import json
import queue
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from stack import nginx
from stack.config import load_config
from stack.host.ports import free_ports
from stack.protocol import StackError
from stack.smoke import await_true
from tests.support.patience import PATIENCE
from tests.support.proxy import NEEDS_NGINX, Answer, Proxy, Upstream, played, reply, running, say_ok

pytestmark = NEEDS_NGINX

BODY = json.dumps({"prompt": "x" * 50_000}).encode()  # its client sends it after the head, in a packet of its own


@pytest.fixture(scope="module")
def _two() -> Iterator[tuple[Upstream, Upstream]]:
    with played() as one, played() as other:
        yield one, other


@pytest.fixture
def boxes(_two: tuple[Upstream, Upstream]) -> tuple[Upstream, Upstream]:
    for box in _two:
        box.answer = say_ok
        box.seen = queue.Queue()
    return _two


@pytest.fixture
def front(boxes: tuple[Upstream, Upstream], tmp_path: Path) -> Iterator[Proxy]:
    """A new one for each test: what an earlier one learned of the boxes is forgotten."""
    with _front(tmp_path, *(box.port for box in boxes)) as started:
        yield started


def _front(folder: Path, first: int, *others: int, **settings: str) -> AbstractContextManager[Proxy]:
    names = ",".join(f"127.0.0.1:{port}" for port in others)
    return running(folder, first, {"UPSTREAMS": names, "MAX_BODY_BYTES": "200000", **settings})


def say(status: int) -> Answer:
    return lambda request: reply(request, status, b'{"own": "words"}', Retry_After="17")


def break_off(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    request.connection.shutdown(socket.SHUT_RDWR)


def _both(boxes: tuple[Upstream, Upstream]) -> list[int]:
    return [box.seen.qsize() for box in boxes]


def test_boxes_take_turns_and_the_log_says_who_answered(front: Proxy, boxes: tuple[Upstream, Upstream]) -> None:
    for box in boxes:
        box.answer = lambda request: reply(request, 200, b"{}", X_Request_ID=request.headers["X-Request-ID"])
    asked = set()
    for _ in range(8):
        status, headers, _ = front.ask("POST", "/", BODY)
        line = front.access(headers["X-Request-ID"])
        assert (status, line["upstream_status"], line["upstream_request_id"]) == (200, 200, line["request_id"])
        asked.add(line["upstream"])
    assert asked == {f"127.0.0.1:{box.port}" for box in boxes}


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/v1/messages"])
def test_what_one_refuses_as_not_ready_another_answers(
    front: Proxy, boxes: tuple[Upstream, Upstream], path: str
) -> None:
    """Whole, whenever its body came, and under the same id."""
    boxes[0].answer = say(503)
    boxes[1].answer = lambda request: reply(request, 200, b"{}", X_Request_ID=request.headers["X-Request-ID"])
    for _ in range(6):
        status, headers, _ = front.ask("POST", path, BODY)
        assert status == 200
        _, received, body = boxes[1].seen.get_nowait()
        assert body == BODY
        line = front.access(headers["X-Request-ID"])
        assert (line["status"], line["upstream_status"]) == (200, 200)
        if ", " in line["upstream"]:
            assert line["upstream"] == ", ".join(f"127.0.0.1:{box.port}" for box in boxes)
            assert isinstance(line["upstream_response_s"], float)
            assert boxes[0].seen.get_nowait()[1]["X-Request-ID"] == received["X-Request-ID"]
    assert boxes[0].seen.empty()


def test_one_that_refused_is_left_alone_for_a_moment(front: Proxy, boxes: tuple[Upstream, Upstream]) -> None:
    boxes[0].answer = say(503)
    for _ in range(30):
        assert front.ask("POST", "/", b"{}")[0] == 200
    assert 1 <= boxes[0].seen.qsize() < 15


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_where_no_connection_comes_about_another_is_asked(
    boxes: tuple[Upstream, Upstream], tmp_path: Path, method: str
) -> None:
    gone, gone_too = free_ports(2)
    with _front(tmp_path, gone, gone_too, boxes[1].port) as front:
        for _ in range(4):
            status, _, _ = front.ask(method, "/v1/models" if method == "GET" else "/", BODY)
            assert status == 200
            assert boxes[1].seen.get_nowait()[2] == BODY


def test_what_broke_in_the_middle_is_not_sent_again(front: Proxy, boxes: tuple[Upstream, Upstream]) -> None:
    """It may have been computed, and it may be what broke the box."""
    boxes[0].answer = boxes[1].answer = break_off
    status, headers, body = front.ask("POST", "/v1/chat/completions", BODY)
    assert (status, json.loads(body)["error"]["code"]) == (502, "app_unavailable")
    assert int(headers["Retry-After"]) > 0
    assert sum(_both(boxes)) == 1
    assert front.access(headers["X-Request-ID"])["upstream_status"] == 502


def test_what_takes_too_long_is_not_sent_again(boxes: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    given_up = threading.Event()

    def answer_too_late(request: BaseHTTPRequestHandler) -> None:
        given_up.wait(PATIENCE)
        request.close_connection = True

    boxes[0].answer = boxes[1].answer = answer_too_late
    several = {"UPSTREAMS": f"127.0.0.1:{boxes[1].port}"}
    with running(tmp_path, boxes[0].port, several, PROXY_READ_TIMEOUT="1s") as front:
        status, _, body = front.ask("POST", "/", BODY)
        given_up.set()
    assert (status, json.loads(body)["error"]["code"]) == (504, "deadline_exceeded")
    assert sum(_both(boxes)) == 1


@pytest.mark.parametrize("status", [400, 401, 429, 500, 502, 504])
def test_every_other_answer_is_the_clients(front: Proxy, boxes: tuple[Upstream, Upstream], status: int) -> None:
    """A 429 too: its box works, its `Retry-After` is computed, and a key would get its share once for each box."""
    boxes[0].answer = boxes[1].answer = say(status)
    for number in range(1, 5):
        got, headers, body = front.ask("POST", "/", BODY)
        assert (got, body, headers["Retry-After"]) == (status, b'{"own": "words"}', "17")
        assert sum(_both(boxes)) == number
    assert min(_both(boxes)) > 0, "a full box is not taken for one that is gone"


def test_when_all_refuse_the_last_refusal_is_the_clients(front: Proxy, boxes: tuple[Upstream, Upstream]) -> None:
    boxes[0].answer = boxes[1].answer = say(503)
    status, headers, body = front.ask("POST", "/", BODY)
    assert (status, body, headers["Retry-After"]) == (503, b'{"own": "words"}', "17")
    assert _both(boxes) == [1, 1]


def test_when_all_are_gone_it_is_a_503_in_our_form(tmp_path: Path) -> None:
    with _front(tmp_path, *free_ports(4)) as front:
        for _ in range(3):
            status, headers, body = front.ask("POST", "/v1/chat/completions", BODY)
            assert (status, json.loads(body)["error"]["code"]) == (503, "app_unavailable")
            assert int(headers["Retry-After"]) > 0
            assert headers["X-Request-ID"]
            assert front.access(headers["X-Request-ID"])["status"] == 503


def test_a_stream_passes_piece_by_piece(front: Proxy, boxes: tuple[Upstream, Upstream]) -> None:
    was_read = threading.Semaphore(0)

    def stream(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("X-Accel-Buffering", "no")
        request.send_header("Connection", "close")
        request.end_headers()
        for _ in range(3):
            request.wfile.write(b"data: piece\n\n")
            assert was_read.acquire(timeout=PATIENCE)
        break_off(request)

    boxes[0].answer, boxes[1].answer = say(503), stream
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=PATIENCE)
    connection.request("POST", "/v1/chat/completions", BODY)
    response = connection.getresponse()
    assert response.headers["X-Accel-Buffering"] == "no"
    for _ in range(3):
        assert response.read1() == b"data: piece\n\n"
        was_read.release()
    response.read()
    connection.close()
    assert boxes[1].seen.qsize() == 1


def test_before_another_stack_both_ids_are_known(boxes: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    """The box's nginx gives an id of its own: the client and our line have it, and the box's app has ours."""
    boxes[0].answer = lambda request: reply(request, 200, b"{}", X_Request_ID=request.headers["X-Request-ID"])
    with running(tmp_path / "box", boxes[0].port) as box, _front(tmp_path / "front", box.port) as front:
        _, headers, _ = front.ask("POST", "/", BODY)
        _, received, _ = boxes[0].seen.get_nowait()
        line = front.access(headers["X-Request-ID"])
        assert box.access(headers["X-Request-ID"])["request_id"] == received["X-Request-ID"]
    assert line["upstream_request_id"] == headers["X-Request-ID"] == received["X-Request-ID"]
    assert line["request_id"] == received["X-Client-Request-ID"] != received["X-Request-ID"]


def test_one_key_is_answered_by_one_box(boxes: tuple[Upstream, Upstream], tmp_path: Path) -> None:
    """However it is given. When its box refuses, the other answers; other keys stay where they are."""

    def asked_by(headers: dict[str, str]) -> int:
        for box in boxes:
            box.seen = queue.Queue()
        assert keyed.ask("POST", "/", BODY, headers)[0] == 200
        return next(number for number, box in enumerate(boxes) if box.answer is say_ok and not box.seen.empty())

    with _front(tmp_path, *(box.port for box in boxes), UPSTREAM_BALANCE="key") as keyed:
        keys = [f"sk-{number}" for number in range(40)]
        homes = {key: asked_by({"Authorization": f"Bearer {key}"}) for key in keys}
        assert 5 < sum(homes.values()) < 35
        for key in keys[:10]:
            assert {asked_by(headers) for headers in ({"x-api-key": key}, {"Authorization": f"bearer  {key}"})} == {
                homes[key]
            }
        assert len({asked_by({}) for _ in range(10)}) == 1, "without a key, the client's address"

        boxes[0].answer = say(503)
        assert {asked_by({"x-api-key": key}) for key in keys} == {1}


def test_large_bodies_stay_in_memory_and_are_bounded(front: Proxy, boxes: tuple[Upstream, Upstream]) -> None:
    written: list[Path] = []

    def look_at_the_disk(request: BaseHTTPRequestHandler) -> None:
        written.extend(path for path in front.folder.glob("temp-*/**/*") if path.is_file())
        say_ok(request)

    boxes[0].answer = boxes[1].answer = look_at_the_disk
    assert front.ask("POST", "/", b"x" * 200_000)[0] == 200
    assert written == []

    held: list[socket.socket] = []

    def hold() -> None:
        """nginx waits for its body."""
        client = socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE)
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 150000\r\n\r\n")
        held.append(client)

    def full() -> bool:
        hold()  # one of the earlier ones may have been refused for the request above, which nginx still counted
        return front.ask("POST", "/", b"x" * 150_000)[0] == 429

    try:
        for _ in range(63):
            hold()
        await_true(full, "64 bodies that nginx holds", PATIENCE)
        assert front.ask("POST", "/", BODY)[0] == 200
    finally:
        for client in held:
            client.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"UPSTREAMS": "10.0.0.2"},
        {"UPSTREAMS": "http://10.0.0.2:6006"},
        {"UPSTREAMS": "10.0.0.2:0"},
        {"UPSTREAMS": "10.0.0.2:70000"},
        {"UPSTREAMS": "a:1; server b:2"},
        {"UPSTREAMS": "a:1,a:1"},
        {"UPSTREAMS": "10.0.0.2:6006,127.0.0.1:6006"},
        {"UPSTREAMS": "localhost:7000", "HTTP_PORT": "7000"},
        {"UPSTREAM_BALANCE": "random"},
    ],
)
def test_what_is_no_list_of_addresses_is_refused(settings: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(StackError, match=re.escape(next(iter(settings.values())))):
        load_config(settings, tmp_path / "none")


def test_addresses_reach_nginx_as_they_are(tmp_path: Path) -> None:
    config = load_config({"UPSTREAMS": " box-2.example:6006 , [fd00::2]:8000,"}, tmp_path / "none")
    servers = nginx.variables(config, listen="1", internal="2", app="app:8000")["UPSTREAM_SERVERS"]
    assert re.findall(r"server (\S+)", servers) == ["app:8000", "box-2.example:6006", "[fd00::2]:8000"]
