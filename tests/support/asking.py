"""What tests of the page do again and again."""

from playwright.async_api import Page, expect


async def ask(page: Page, question: str) -> None:
    """Asks by keyboard, once the page takes a question: one at a time is answered."""
    await page.get_by_label("Your question").fill(question)
    await expect(page.get_by_role("button", name="Send", exact=True)).to_be_enabled()
    await page.keyboard.press("Enter")
