"""uvicorn's HTTP protocol, which answers nothing by itself: the app refuses what is no HTTP.

uvicorn would answer with plain text, without an id, a log line or a metric. nginx lets some such requests pass, for
example a vertical tab in a header.
"""

import asyncio
from urllib.parse import unquote

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from app.api.http.middleware.unreadable import UNREADABLE

_LONGEST = 65_536  # bytes of a head, as h11's own limit


class Protocol(H11Protocol):
    _head = b""

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE:
            self._head = (self._head + data)[:_LONGEST]
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._head = b""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # the app has its own words
        if self.conn.our_state is not h11.IDLE:  # within a body: the app sees a client that broke off
            self.transport.close()
            return
        path, headers = _read(self._head)
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": "GET",
            "root_path": self.root_path,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"connection", b"close"), *headers],
            "state": {**self.app_state, UNREADABLE: True},
        }
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            conn=self.conn,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            on_response=self.on_response_complete,
        )
        self.cycle.more_body = False
        self.cycle.keep_alive = False
        task = self.loop.create_task(self.cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)


def _read(head: bytes) -> tuple[str, list[tuple[bytes, bytes]]]:
    """Path and headers, as far as they can be told: they say in which form to answer, and under which id."""
    first, *lines = head.partition(b"\r\n\r\n")[0].split(b"\r\n")
    words = first.split(b" ")
    target = words[1].partition(b"?")[0] if len(words) > 1 else b""
    pairs = [line.partition(b":") for line in lines]
    path = unquote(target.decode("latin-1")) if target.startswith(b"/") else "/"
    return path, [(name.lower(), value.strip()) for name, _, value in pairs]
