"""Clients that leave, as Serve tells of them."""

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.cluster.disconnects import Disconnects


class Gone(Exception):
    """Of the proxy."""


async def heard(receive: Receive, kind: str = "http") -> Message:
    """The first message that an app gets."""
    messages = []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        messages.append(await receive())

    async def send(_message: Message) -> None:
        raise AssertionError

    await Disconnects(app, gone=Gone)({"type": kind}, receive, send)
    return dict(messages[0])


async def test_a_question_that_the_proxy_no_longer_answers_means_that_the_client_left() -> None:
    async def receive() -> Message:
        raise Gone

    assert await heard(receive) == {"type": "http.disconnect"}
    with pytest.raises(Gone):
        await heard(receive, kind="lifespan")


async def test_messages_and_other_failures_pass() -> None:
    body = {"type": "http.request", "body": b"x", "more_body": False}

    async def receive() -> Message:
        return body

    async def failing() -> Message:
        raise RuntimeError

    assert await heard(receive) == body
    with pytest.raises(RuntimeError):
        await heard(failing)
