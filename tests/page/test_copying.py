"""Copy buttons, and the request as curl: what is copied is what was sent."""

import asyncio
import json
from asyncio.subprocess import PIPE

from playwright.async_api import Page, expect

from tests.page.conftest import Open
from tests.page.played import Played
from tests.support.asking import ask

CLIPBOARD = ["clipboard-read", "clipboard-write"]
NASTY = "it's \"$(touch /tmp/never)\" `id` $HOME \\ !x\n'; exit 1; '\u00e9\u4f60 @/etc/passwd"


async def clipboard(page: Page) -> str:
    return str(await page.evaluate("navigator.clipboard.readText()"))


async def test_code_and_answers_are_copied_as_the_model_wrote_them(open_page: Open, played: Played) -> None:
    text = "Look:\n\n```python\nif a < b & c:\n\tpass\n```\n\nand **so** on"
    async with open_page(permissions=CLIPBOARD) as (page, _):
        await ask(page, "hi")
        await played.answer(text)
        await page.get_by_role("button", name="Copy code").click()
        await expect(page.get_by_role("status")).to_have_text("Copied.")
        assert await clipboard(page) == "if a < b & c:\n\tpass\n"
        await page.get_by_role("status").evaluate("(status) => status.replaceChildren()")
        await page.get_by_role("button", name="Copy answer").click()
        await expect(page.get_by_role("status")).to_have_text("Copied.")
        assert await clipboard(page) == text


async def test_copying_works_where_the_page_is_not_on_https(open_page: Open, played: Played) -> None:
    """There is no clipboard interface there: a LAN address is the usual case of this stack."""
    async with open_page(permissions=CLIPBOARD) as (page, _):
        read = await page.evaluate_handle("() => { const c = navigator.clipboard; return () => c.readText(); }")
        await page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        await ask(page, "hi")
        await played.answer("the answer")
        await page.get_by_role("button", name="Copy answer").click()
        await expect(page.get_by_role("status")).to_have_text("Copied.")
        assert await page.evaluate("(read) => read()", read) == "the answer"
        await expect(page.get_by_role("button", name="Copy answer")).to_be_focused()


async def test_the_curl_line_sends_exactly_the_request(open_page: Open, played: Played) -> None:
    async with open_page(permissions=CLIPBOARD) as (page, _):
        await ask(page, NASTY)
        asked = await played.answer("ok")
        await page.get_by_role("button", name="curl").click()
        dialog = page.get_by_role("dialog", name="The request as curl")
        await dialog.get_by_role("button", name="Copy code").click()
        command = await clipboard(page)
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
    # Run by a shell, with a curl that shows what it was given.
    shown = "curl() { printf '%s\\0' \"$@\"; }\n"
    shell = await asyncio.create_subprocess_exec("sh", "-c", shown + command, stdout=PIPE)
    given = (await shell.communicate())[0].decode()
    assert shell.returncode == 0
    arguments = given.split("\0")
    assert f"{played.url}v1/chat/completions" in arguments
    assert json.loads(arguments[arguments.index("-d") + 1]) == asked.body
    assert "authorization" not in given.lower()


async def test_the_next_request_can_be_seen_before_it_is_sent(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "one")
        await played.answer("first")
        await expect(page.locator(".prose")).to_have_text("first")
        await page.get_by_label("Your question").fill("two")
        await page.get_by_role("button", name="Settings", exact=True).click()
        await page.get_by_label("Temperature").fill("0.5")
        await page.get_by_role("button", name="Next request as curl").click()
        shown = await page.locator("#curl-code pre").inner_text()
        body = json.loads(shown[shown.index("{") : shown.rindex("}") + 1])
        assert [message["content"] for message in body["messages"]] == ["one", "first", "two"]
        assert body["temperature"] == 0.5
