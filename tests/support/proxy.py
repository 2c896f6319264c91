"""A real nginx from our templates, between a client and an upstream whose answers a test writes."""

import http.client
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stack import nginx
from stack.config import load_config
from stack.host.ports import free_ports
from tests.support.patience import PATIENCE
from tests.support.ports import wait_for_port

NEEDS_NGINX = pytest.mark.skipif(
    shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin") is None and os.environ.get("CI") != "true",
    reason="nginx is not installed: `make test` as root installs it",
)
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Upstream:
    """The app's part: `answer` is what the test wants the next requests to get."""

    port: int
    answer: Answer
    seen: "queue.Queue[tuple[str, dict[str, str], bytes]]" = field(default_factory=queue.Queue)


@dataclass
class Proxy:
    port: int
    internal_port: int
    folder: Path
    log: "queue.Queue[str]"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def access(self, request_id: str) -> dict[str, Any]:
        """The access log's line of one request."""
        while True:
            line = self.log.get(timeout=PATIENCE)
            if request_id in line and line.startswith("{"):
                parsed = json.loads(line)
                assert isinstance(parsed, dict)
                return parsed


def reply(request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    request.send_response(status)
    for name, value in {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(body)


def say_ok(request: BaseHTTPRequestHandler) -> None:
    reply(request, 200, b"{}")


@contextmanager
def played() -> Iterator[Upstream]:
    """An upstream on a free port of loopback."""
    state = Upstream(port=0, answer=say_ok)

    class Play(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the base class's name
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.seen.put((f"{self.command} {self.path}", dict(self.headers.items()), body))
            state.answer(self)

        def do_POST(self) -> None:  # the base class's name
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Quiet: the test looks at nginx's log, not at this one."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Play)
    server.daemon_threads = True
    state.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def running(
    folder: Path, app_port: int, settings: Mapping[str, str] | None = None, **variables: str
) -> Iterator[Proxy]:
    """nginx in front of that port, with the stack's `settings`; `variables` replace those of its templates."""
    port, internal = free_ports(2)
    config = load_config({"MAX_BODY_BYTES": "100000", **(settings or {})}, folder / "no.env")
    values = nginx.variables(
        config, listen=f"127.0.0.1:{port}", internal=f"127.0.0.1:{internal}", app=f"127.0.0.1:{app_port}"
    )
    nginx.write(folder, values | variables)
    with _started(folder, port) as log:
        yield Proxy(port, internal, folder, log)


@contextmanager
def with_default_settings(folder: Path, behind: int) -> Iterator[int]:
    """The port of another nginx, as it comes, in front of the service at this port."""
    (port,) = free_ports(1)
    kinds = ("proxy", "fastcgi", "uwsgi", "scgi", "client_body")
    temporary = "".join(f"{kind}_temp_path {kind};\n" for kind in kinds)
    folder.mkdir()
    (folder / "nginx.conf").write_text(
        f"pid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; }} }}\n}}\n",
        encoding="utf-8",
    )
    with _started(folder, port):
        yield port


@contextmanager
def _started(folder: Path, port: int) -> Iterator["queue.Queue[str]"]:
    """nginx with that prefix until the end of the block; the lines that it prints."""
    process = subprocess.Popen(nginx.command(folder), stdout=subprocess.PIPE, text=True)
    log: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=_collect, args=(process.stdout, log))
    reader.start()
    try:
        wait_for_port(port)
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        reader.join(PATIENCE)
        process.stdout.close()


def _collect(lines: Iterable[str], log: "queue.Queue[str]") -> None:
    for line in lines:
        log.put(line)
