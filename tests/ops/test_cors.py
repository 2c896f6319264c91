"""Web pages of other origins, through a real nginx: the listed ones may use the server, and read its errors."""

import http.client
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from app.api.http.cors import EXPOSED
from app.contract.telemetry import Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from stack.config import load_config
from stack.protocol import StackError
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.proxy import NEEDS_NGINX, Proxy, running

pytestmark = NEEDS_NGINX

PAGE, OTHER_PAGE, STRANGER = "https://chat.example.com", "http://[::1]:3000", "https://chat.example.com.evil.example"
CHAT = "/v1/chat/completions"
BODY = b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}'
KEY = {"Authorization": "Bearer key-of-blue", "Content-Type": "application/json"}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


@pytest.fixture(scope="module", params=[f"{PAGE},{OTHER_PAGE}", "*", ""], ids=["listed", "all", "none"])
def origins(request: pytest.FixtureRequest) -> str:
    listed: str = request.param
    return listed


@pytest.fixture(scope="module")
def stack(embedded_model: Path, tmp_path_factory: pytest.TempPathFactory, origins: str) -> Iterator[Proxy]:
    """nginx in front of an app that needs keys."""
    folder = tmp_path_factory.mktemp("cors")
    (folder / "keys").write_text("blue:key-of-blue\n", encoding="utf-8")
    settings = Settings(api_keys_file=folder / "keys", cors_origins=origins)
    app = LiveServer(create_app(settings, ControlledEngine(), Prompts(embedded_model, SCRIPTED_MODEL), Observers()))
    try:
        with running(folder / "nginx", app.port, CORS_ORIGINS=origins) as proxy:
            yield proxy
    finally:
        app.close()


def allowed(headers: http.client.HTTPMessage) -> list[str]:
    return headers.get_all("Access-Control-Allow-Origin") or []


def expected(origins: str, page: str) -> list[str]:
    if origins == "*":
        return ["*"]
    return [page] if page in origins.split(",") else []


@pytest.mark.parametrize("page", [PAGE, OTHER_PAGE, STRANGER, "null", "https://chat", "x|" + PAGE])
def test_who_may_ask_and_read(stack: Proxy, origins: str, page: str) -> None:
    may = expected(origins, page)
    from_page = {"Origin": page}
    asked: list[tuple[int, str, str, bytes | None, Mapping[str, str]]] = [
        (200, "POST", CHAT, BODY, KEY),
        (400, "POST", CHAT, b"{}", KEY),
        (401, "POST", CHAT, BODY, {}),
        (404, "GET", "/v1/models/other", None, KEY),
        (404, "GET", "/v1/embeddings", None, {}),  # nginx' own
        (413, "POST", CHAT, b"x" * 100_001, KEY),  # likewise
        (200, "GET", "/readyz", None, {}),
    ]
    for status, method, path, body, headers in asked:
        got, answered, _ = stack.ask(method, path, body, {**headers, **from_page})
        assert got == status
        assert allowed(answered) == may, (method, path)
        exposed = re.split(", ", answered.get("Access-Control-Expose-Headers", ""))
        if may:
            assert exposed == list(EXPOSED)
            assert origins == "*" or "Origin" in answered["Vary"]


@pytest.mark.parametrize("page", [PAGE, STRANGER])
def test_the_browsers_first_question_needs_no_key(stack: Proxy, origins: str, page: str) -> None:
    status, headers, _ = stack.ask("OPTIONS", CHAT, None, {"Origin": page, **PREFLIGHT})
    assert allowed(headers) == expected(origins, page)
    if not origins:
        assert status == 401  # as for everybody without a key
    elif allowed(headers):
        assert status == 200
        assert headers["Access-Control-Allow-Headers"] == PREFLIGHT["Access-Control-Request-Headers"]
        assert "POST" in headers["Access-Control-Allow-Methods"]
        assert headers["X-Request-ID"]
    else:
        assert status == 400


def test_who_is_no_web_page_sees_no_difference(stack: Proxy) -> None:
    for path in ("/readyz", "/v1/embeddings"):
        _, headers, _ = stack.ask("GET", path)
        assert headers["Access-Control-Allow-Origin"] in (None, "*")


@pytest.mark.parametrize("wrong", ["https://a.example/", "a.example", 'https://a"; return 200;', "https://a b"])
def test_what_is_no_origin_stops_the_start(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        Settings(cors_origins=wrong)
    with pytest.raises(StackError, match="CORS_ORIGINS"):
        load_config({"CORS_ORIGINS": wrong}, tmp_path / "no.env")
    assert load_config({"CORS_ORIGINS": f" {PAGE} , *"}, tmp_path / "no.env").cors_origins == f"{PAGE},*"
