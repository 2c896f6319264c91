"""A collector of traces: what it got, by OpenTelemetry's own protobufs."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Everything that came, in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.headers: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self._spans: queue.Queue[Span] = queue.Queue()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> bytes:
        assert path == "/v1/traces"
        self.headers.append(headers)
        self.bodies.append(body)
        told = ExportTraceServiceRequest.FromString(body)
        for resource in told.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self._spans.put(span)
        return bytes(ExportTraceServiceResponse().SerializeToString())

    def spans(self, count: int, patience: float = 30) -> dict[str, Span]:
        """The next ones by their names."""
        return {span.name: span for span in (self._spans.get(timeout=patience) for _ in range(count))}

    @property
    def empty(self) -> bool:
        return self._spans.empty()


def attributes(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in span.attributes:
        kind = pair.value.WhichOneof("value") or ""
        value: Any = getattr(pair.value, kind, None)
        found[pair.key] = [each.string_value for each in value.values] if kind == "array_value" else value
    return found


@contextmanager
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = found.take(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(f"http://127.0.0.1:{server.server_port}")
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()
