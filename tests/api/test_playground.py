"""`GET /` and the page's files, as HTTP: types, caching, policy, and what cannot be had."""

import http.client
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from app.api.playground.files import HERE, load_page
from tests.api.conftest import MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer


def _addresses(client: TestClient) -> list[str]:
    """What the document asks for."""
    return ["/" + found for found in re.findall(r'(?:src|href)="(playground/[^"]+)"', client.get("/").text)]


def test_the_page_is_html_that_is_asked_for_again_each_time(client: TestClient) -> None:
    response = client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert "{{" not in response.text
    for known in (response.headers["etag"], f'"other", W/{response.headers["etag"]}'):
        again = client.get("/", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == response.headers["etag"]
    assert client.get("/", headers={"If-None-Match": '"other"'}).status_code == 200
    head = client.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(response.content))


def test_the_policy_lets_nothing_in_that_is_not_ours(client: TestClient) -> None:
    for path in ("/", _addresses(client)[0]):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert {policy[f"{kind}-src"] for kind in ("script", "style", "connect", "img", "font")} == {"'self'"}
        assert {policy[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
        assert policy["require-trusted-types-for"] == "'script'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_every_file_of_the_document_is_there_for_ever_under_its_address(client: TestClient) -> None:
    kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
    addresses = _addresses(client)
    assert {Path(address).suffix for address in addresses} == set(kinds)
    for address in addresses:
        response = client.get(address)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kinds[Path(address).suffix])
        assert "immutable" in response.headers["cache-control"]
        assert client.head(address).headers["content-length"] == str(len(response.content))


def test_another_content_has_another_address(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text('<script src="{{files}}/page/a.js">')
    (tmp_path / "page" / "a.js").write_text("1")
    first = load_page(tmp_path)
    assert [name.encode()[1:] in first.document for name in first.files] == [True]
    (tmp_path / "page" / "a.js").write_text("2")
    second = load_page(tmp_path)
    assert set(first.files).isdisjoint(second.files)
    assert first.document_etag != second.document_etag


@pytest.mark.parametrize(
    "path",
    [
        "/playground",
        "/playground/",
        "/playground/{version}",
        "/playground/{version}/",
        "/playground/{version}/page/index.html",
        "/playground/{version}/page/../page/js/main.js",
        "/playground/{version}/page/%2e%2e/page/js/main.js",
        "/playground/{version}/page/..%2fpage/js/main.js",
        "/playground/{version}/page//js/main.js",
        "/playground/{version}/page/js/main.js/",
        "/playground/{version}/../../../main.py",
        "/playground/{version}/vendor/SHA256SUMS",
        "/playground/{version}//etc/passwd",
        "/playground/0000000000000000/page/js/main.js",
    ],
)
def test_only_listed_files_can_be_had(serve: Callable[..., LiveServer], path: str) -> None:
    """By http.client, which sends a path as it is."""
    where = urlsplit(serve(ControlledEngine()).url)
    version = next(iter(load_page().files)).split("/")[2]
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=30)
    connection.request("GET", path.format(version=version))
    assert connection.getresponse().status == 404
    connection.close()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_told_which_there_are(client: TestClient, method: str) -> None:
    refused = client.request(method, "/")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    assert "GET, HEAD, POST" in refused.json()["error"]["message"]
    file = client.request(method, _addresses(client)[0])
    assert (file.status_code, set(file.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


def test_the_page_is_open_and_a_question_needs_its_key(make_client: MakeClient, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("team:secret\n")
    client = make_client(ControlledEngine(), api_keys_file=keys)
    assert client.get("/").status_code == 200
    assert client.head("/").status_code == 200
    assert {client.get(address).status_code for address in _addresses(client)} == {200}
    assert client.post("/", json={"prompt": "a"}).status_code == 401
    assert client.put("/").status_code == 401
    assert client.post(
        "/", json={"prompt": "a", "max_length": 1}, headers={"Authorization": "Bearer secret"}
    ).is_success


def test_the_document_asks_no_other_host_for_anything() -> None:
    """Links may lead elsewhere; what a browser fetches by itself may not. Licences name their projects' pages."""
    fetching = re.compile(r"""(?:src|href|from|import|url)\s*[=(]?\s*["']?(?:https?:)?//""", re.IGNORECASE)
    ours = [path for path in (HERE / "page").rglob("*") if path.is_file()]
    assert ours
    for path in ours:
        assert not fetching.search(path.read_text(encoding="utf-8")), path.name
