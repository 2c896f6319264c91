"""The page of the running stack: through nginx, with the real model, in a real browser."""

import os

import pytest
from playwright.async_api import expect

from tests.e2e.conftest import Running
from tests.support.asking import ask
from tests.support.browser import CHROMIUM, chromium, opened, picture

PATIENCE = 120_000  # milliseconds for one answer on a busy machine

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true",
    reason="chromium is not installed: `make test` as root installs it",
)


async def test_a_question_is_answered_on_the_page(stack: Running) -> None:
    home = f"{stack.config.address}/"
    async with chromium() as browser, opened(browser, home) as (page, watch):
        await expect(page.locator("#model-name")).to_have_text("smollm2-135m", timeout=PATIENCE)
        await page.get_by_role("button", name="Settings", exact=True).click()
        await page.get_by_label("Temperature").fill("0")
        await page.get_by_label("Max tokens").fill("96")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog", name="Settings")).to_be_hidden()
        await ask(page, "Write a Python function named add that returns the sum of two numbers.")
        answer = page.locator(".answer")
        await expect(answer.locator("summary")).to_contain_text("first token", timeout=PATIENCE)
        await expect(answer).to_have_attribute("aria-busy", "false", timeout=PATIENCE)
        await expect(answer.locator(".code-block")).to_contain_text("return a + b")
        await expect(answer.locator("summary")).to_contain_text("tokens/s")
        await answer.locator("summary").click()
        for name in ("Prompt", "Answer", "Waited", "Prompt computed in", "Answer computed in", "Request id"):
            await expect(answer.locator("dt", has_text=name).first).to_be_visible()
        await page.screenshot(path=picture("real-answer-light-desktop"))

        # Stopped midway: the partial text stays, and the next question is answered.
        await page.get_by_role("button", name="Settings", exact=True).click()
        await page.get_by_label("Max tokens").fill("1000")
        await ask(page, "Count from one to a thousand.")
        await expect(page.locator(".prose").last).not_to_be_empty(timeout=PATIENCE)
        await page.get_by_label("Stop the answer").click()
        await expect(page.locator(".notice").last).to_contain_text("You stopped this answer.")
        await page.get_by_label("Max tokens").fill("4")
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator(".notice").last).to_contain_text("token limit", timeout=PATIENCE)

        # What the server refuses is said in its words.
        await page.get_by_label("Temperature").fill("7")
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator(".notice").last).to_contain_text("temperature")
        watch.expect("status of 400")
        await page.reload()
        await expect(page.locator(".turn")).to_have_count(2)
