"""A model hub on loopback: what the clients of the Hugging Face hub and of ModelScope ask, and faults on demand."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = ".safetensors"
"""Files that end so are stored by their sha256, as hubs store weights."""


@dataclass
class Hub:
    """`files` is what it says it has; `served` overrides what it gives for a file."""

    repository: str
    revision: str
    files: dict[str, bytes]
    served: dict[str, bytes] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of a large file after which the connection ends, and stays refused
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)  # method, path, Range
    sent: dict[str, int] = field(default_factory=dict)  # bytes of each file's bodies
    url: str = ""

    def downloads(self, name: str) -> list[str | None]:
        """The Range headers of the requests for the file's content."""
        return [ranged for method, path, ranged in self.requests if method == "GET" and path.endswith(f"/{name}")]

    def huggingface_tree(self) -> list[dict[str, Any]]:
        tree = []
        for name, content in self.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content), "oid": blob}
            if name.endswith(LARGE):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 135}
            tree.append(entry)
        return tree

    def modelscope_files(self) -> dict[str, Any]:
        files = [
            {"Path": name, "Size": len(content), "Sha256": hashlib.sha256(content).hexdigest(), "Type": "blob"}
            for name, content in self.files.items()
        ]
        return {"Code": 200, "Success": True, "Data": {"Files": files}}


@contextmanager
def serve(hub: Hub, host: str = "127.0.0.1") -> Iterator[Hub]:
    """The hub, listening; its `url` is the endpoint."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer((host, 0), Handler)
    hub.url = f"http://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        repository = self.hub.repository
        name = query.get("FilePath", [""])[0]
        shown = f"{path}/{name}" if name else path
        self.hub.requests.append((self.command, shown, self.headers.get("Range")))
        if path == f"/api/models/{repository}/tree/{self.hub.revision}":
            self._json(self.hub.huggingface_tree())
        elif path == f"/api/v1/models/{repository}/repo/files":
            self._json(self.hub.modelscope_files())
        elif path == f"/api/v1/models/{repository}/repo" and name:
            self._file(name, body=body)
        elif path.startswith(f"/{repository}/resolve/{self.hub.revision}/"):
            self._file(path.split("/", 5)[5], body=body)
        else:
            self._refuse(404)

    def _json(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, name: str, *, body: bool) -> None:
        if name not in self.hub.files:
            self._refuse(404)
            return
        content = self.hub.served.get(name, self.hub.files[name])
        cut = self.hub.cut_after if name.endswith(LARGE) and body else None
        if cut is not None and self.hub.sent.get(name):
            self._refuse(403)
            return
        start = self._start()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{self._etag(name)}"')
        self.send_header("X-Repo-Commit", self.hub.revision)
        self.end_headers()
        if body:
            part = content[start : start + cut] if cut is not None else content[start:]
            self.hub.sent[name] = self.hub.sent.get(name, 0) + len(part)
            self.wfile.write(part)
            self.close_connection = cut is not None

    def _start(self) -> int:
        ranged = self.headers.get("Range", "")
        return int(ranged.removeprefix("bytes=").split("-")[0]) if ranged else 0

    def _etag(self, name: str) -> str:
        entry = next(entry for entry in self.hub.huggingface_tree() if entry["path"] == name)
        return str(entry["lfs"]["oid"] if "lfs" in entry else entry["oid"])
