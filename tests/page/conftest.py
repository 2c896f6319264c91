"""The page in a real browser, against an API that the test plays."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.page.played import Played, serving
from tests.support.browser import CHROMIUM, Watch, chromium, opened

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for all, because one browser serves all."""
    for item in items:
        if HERE in item.path.parents and isinstance(item, pytest.Function):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser, None]:
    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("chromium is not installed: `make test` as root installs it")
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def played() -> AsyncGenerator[Played, None]:
    async with serving() as started:
        yield started


Open = Callable[..., AbstractAsyncContextManager[tuple[Page, Watch]]]


@pytest.fixture
def open_page(browser: Browser, played: Played) -> Open:
    """Opens the page, for as long as the test's `async with` lasts."""

    def open_it(**options: Any) -> AbstractAsyncContextManager[tuple[Page, Watch]]:
        return opened(browser, played.url, **options)

    return open_it
