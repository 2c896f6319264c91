"""Debian's Chromium, headless, and a watch over what a page does: every complaint and every request to a stranger."""

import os
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright, expect

from tests.support.node import NODE
from tests.support.patience import PATIENCE

CHROMIUM = shutil.which("chromium")
PICTURES = Path(__file__).parents[2] / "test-output" / "page"

_QUIET = [
    "--no-sandbox",  # root has no sandbox, and tests run as root in containers
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def chromium() -> AsyncGenerator[Browser, None]:
    os.environ["PLAYWRIGHT_NODEJS_PATH"] = str(NODE)  # Playwright's own needs libatomic.so.1
    expect.set_options(timeout=PATIENCE * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
        try:
            yield browser
        finally:
            await browser.close()


class Watch:
    """What a page must not do. `expect` names the complaints that a test provokes."""

    def __init__(self, context: BrowserContext, home: str) -> None:
        self.complaints: list[str] = []
        self._home = urlsplit(home).netloc
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(f"uncaught: {error.error}"))
        context.on("request", self._request)
        context.on("page", lambda page: page.on("dialog", lambda _: self.complaints.append("opened a dialog")))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _request(self, request: Request) -> None:
        if urlsplit(request.url).netloc != self._home:
            self.complaints.append(f"asked {request.url}")

    def expect(self, pattern: str) -> None:
        """Raises AssertionError when nothing like it was complained of."""
        expected = [complaint for complaint in self.complaints if re.search(pattern, complaint)]
        assert expected, self.complaints
        self.complaints = [complaint for complaint in self.complaints if complaint not in expected]


@asynccontextmanager
async def opened(browser: Browser, home: str, **options: Any) -> AsyncGenerator[tuple[Page, Watch], None]:
    """The page at `home` in a context of its own; fails when it did anything that the test did not expect."""
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENCE * 1000)
    watch = Watch(context, home)
    try:
        page = await context.new_page()
        await page.goto(home)
        yield page, watch
    except BaseException as error:
        error.add_note(f"The page complained of: {watch.complaints}")
        raise
    else:
        assert watch.complaints == []
    finally:
        await context.close()


def picture(name: str) -> Path:
    """Where a screenshot is kept as output of the tests."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES / f"{name}.png"
