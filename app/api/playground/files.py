"""The files of the page, read once at the start. No other file is served."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_FOLDERS = ("page", "vendor")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
PREFIX = "/playground/"


@dataclass(frozen=True, slots=True)
class PageFile:
    content: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Page:
    """`files` are keyed by address. Addresses contain a digest of all files, so the content of an address never
    changes.

    The modules import each other by relative addresses, so that one digest in the document is enough.
    """

    document: bytes
    document_etag: str
    files: dict[str, PageFile]


def load_page(folder: Path = HERE) -> Page:
    found = {
        path.relative_to(folder).as_posix(): PageFile(path.read_bytes(), _TYPES[path.suffix])
        for name in _FOLDERS
        for path in sorted((folder / name).rglob("*"))
        if path.suffix in _TYPES and path.is_file()
    }
    digest = hashlib.sha256()
    for name, file in found.items():
        digest.update(f"{name} {len(file.content)}\n".encode() + file.content)
    version = digest.hexdigest()[:16]
    template = (folder / "page" / "index.html").read_text(encoding="utf-8")
    document = template.replace("{{files}}", f"{PREFIX[1:]}{version}").encode()
    return Page(
        document=document,
        document_etag=f'"{hashlib.sha256(document).hexdigest()[:32]}"',
        files={f"{PREFIX}{version}/{name}": file for name, file in found.items()},
    )
