"""A web page of another origin, in a real browser: it may use the server where CORS_ORIGINS says so."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from app.contract.telemetry import Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.proxy import Upstream, reply
from tests.support.proxy import played as playing

ASK = """async ([url, key]) => {
  try {
    const response = await fetch(url + "v1/chat/completions", {
      method: "POST",
      headers: {"Content-Type": "application/json", "Authorization": "Bearer " + key, "X-Stainless-Lang": "js"},
      body: JSON.stringify({messages: [{role: "user", content: "a"}], max_tokens: 1}),
    });
    const headers = ["x-request-id", "x-ratelimit-remaining-requests"].map((name) => response.headers.get(name));
    return {status: response.status, headers, body: await response.json()};
  } catch (error) {
    return {hidden: error.name};
  }
}"""


@pytest.fixture
def elsewhere() -> Iterator[Upstream]:
    """An empty page of another origin."""
    with playing() as site:
        site.answer = lambda request: reply(request, 200, b"<!doctype html>", Content_Type="text/html")
        yield site


async def ask(browser: Browser, site: Upstream, app: LiveServer, key: str) -> Any:
    page = await browser.new_page()
    try:
        await page.goto(f"http://127.0.0.1:{site.port}/")
        return await page.evaluate(ASK, [app.url, key])
    finally:
        await page.close()


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
async def test_only_a_listed_page_may_ask(
    browser: Browser, elsewhere: Upstream, embedded_model: Path, tmp_path: Path, listed: bool
) -> None:
    (tmp_path / "keys").write_text("blue:key-of-blue\n", encoding="utf-8")
    origin = f"http://127.0.0.1:{elsewhere.port}" if listed else "https://chat.example.com"
    settings = Settings(api_keys_file=tmp_path / "keys", cors_origins=(origin,))
    app = LiveServer(create_app(settings, ControlledEngine(), Prompts(embedded_model, SCRIPTED_MODEL), Observers()))
    try:
        answer = await ask(browser, elsewhere, app, "key-of-blue")
        refusal = await ask(browser, elsewhere, app, "wrong")
    finally:
        app.close()
    if not listed:
        assert answer == refusal == {"hidden": "TypeError"}
        return
    assert answer["status"] == 200
    assert all(answer["headers"])
    assert (refusal["status"], refusal["body"]["error"]["code"]) == (401, "invalid_api_key")
    assert refusal["headers"][0]
