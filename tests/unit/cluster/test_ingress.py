"""What clients get where Serve, and no replica, answers. `tests/cluster` has the same with Serve itself."""

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.cluster.ingress import Ingress, middlewares

STREAM = [(b"request-id", b"one"), (b"content-type", b"text/event-stream; charset=utf-8")]


def start(status: int, headers: list[tuple[bytes, bytes]]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(text: str, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


def serve(*messages: Message) -> ASGIApp:
    """A proxy of Serve that answers with these messages, behind what stands in the proxies."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return Ingress(proxy)


def test_serve_is_given_it() -> None:
    assert [repr(one) for one in middlewares()] == ["Middleware(Ingress)"]


async def ask(app: ASGIApp, path: str = "/v1/chat/completions") -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://cluster") as client:
        return await client.get(path)


async def test_an_answer_passes_with_one_id() -> None:
    headers = [(b"x-request-id", b"one"), (b"request-id", b"one"), (b"x-request-id", b"one")]
    response = await ask(serve(start(429, headers), body("a", more=True), body("b")))
    assert (response.status_code, response.text) == (429, "ab")
    assert response.headers.get_list("x-request-id") == ["one"]


@pytest.mark.parametrize("messages", [[], [start(500, []), body("Traceback of a replica")]])
async def test_a_replica_that_was_lost_before_its_answer_is_told_as_an_error(messages: list[Message]) -> None:
    response = await ask(serve(*messages))
    assert response.status_code == 500, "503 would say that nothing was computed"
    assert response.json()["error"]["code"] == "interrupted"
    assert "Ask again" in response.json()["error"]["message"]
    assert response.headers["retry-after"] == "1"
    assert response.headers["x-request-id"]
    assert "x-should-retry" not in response.headers


async def test_a_stream_whose_replica_is_lost_ends_with_an_error() -> None:
    response = await ask(serve(start(200, STREAM), body("data: {}\n\n", more=True)))
    begun, lost = response.text.split("\n\n", maxsplit=1)
    assert begun == "data: {}"
    assert lost.startswith('data: {"error":')
    assert '"code":"interrupted"' in lost


async def test_anthropics_stream_ends_with_anthropics_event() -> None:
    response = await ask(serve(start(200, STREAM), body("x\n\n", more=True)), "/v1/messages")
    assert "event: error\n" in response.text
    assert '"type":"overloaded_error"' in response.text


async def test_a_body_that_is_no_stream_is_not_completed() -> None:
    """So that the server closes the connection, and no client takes the part for the whole."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    app = serve(start(200, [(b"request-id", b"one"), (b"content-length", b"9")]), body("half", more=True))
    await app({"type": "http", "path": "/v1/chat/completions", "headers": []}, receive, send)
    assert [message.get("more_body") for message in sent] == [None, True]


@pytest.mark.parametrize("status", [404, 503])
async def test_where_no_replica_runs_clients_are_told_when_to_come_back(status: int) -> None:
    response = await ask(serve(start(status, [(b"x-request-id", b"one")]), body("Ping /-/routes for routes.")))
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "not_ready"
    assert int(response.headers["retry-after"]) > 0


async def test_metrics_of_any_replica_are_nobodys() -> None:
    assert (await ask(serve(start(200, []), body("metrics")), "/metrics")).status_code == 404


async def test_serves_own_paths_are_left_to_it() -> None:
    response = await ask(serve(start(200, []), body("success")), "/-/healthz")
    assert (response.status_code, response.text) == (200, "success")
