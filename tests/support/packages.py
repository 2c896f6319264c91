"""Small Python packages made on the spot, and package indexes on loopback that offer them."""

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def wheel(folder: Path, name: str, version: str, code: str = "", tag: str = "py3-none-any") -> Path:
    """NAME-VERSION as a wheel with one module, `NAME/__init__.py`."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}/__init__.py", code)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in (f"{module}/__init__.py", info)))
    return path


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@dataclass
class Index:
    """A simple index of the files in a folder; `asked` are the paths that it was asked for."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def page(self, name: str) -> str | None:
        files = [file for file in sorted(self.folder.iterdir()) if file.name.split("-")[0].replace("_", "-") == name]
        links = "".join(f'<a href="/files/{file.name.replace("+", "%2B")}">{file.name}</a>' for file in files)
        return f"<!DOCTYPE html><html><body>{links}</body></html>" if files else None


@contextmanager
def served(folder: Path) -> Iterator[Index]:
    """The folder's packages on loopback, as an index that pip can be given."""
    index = Index(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            _, kind, name = self.path.rstrip("/").split("/", 2)
            page = index.page(name) if kind == "simple" else None
            file = folder / name.replace("%2B", "+")
            if page is not None:
                self._answer(page.encode(), "text/html")
            elif kind == "files" and file.is_file():
                self._answer(file.read_bytes(), "application/octet-stream")
            else:
                self.send_error(404)

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Not on the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        index.url = f"http://127.0.0.1:{server.server_port}/simple"
        try:
            yield index
        finally:
            server.shutdown()
