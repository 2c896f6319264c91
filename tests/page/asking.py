"""What tests of the page do again and again."""

from playwright.async_api import Page


async def ask(page: Page, question: str) -> None:
    await page.get_by_label("Your question").fill(question)
    await page.keyboard.press("Enter")
