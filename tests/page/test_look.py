"""How it looks: both themes on a desktop and a phone, kept as pictures; nothing overflows, and text can be read."""

from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.page.conftest import Open
from tests.page.played import Played
from tests.support.asking import ask
from tests.support.browser import picture
from tests.support.contrast import CONTRAST

SIZES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 860}},
    "phone": {
        "viewport": {"width": 360, "height": 740},
        "is_mobile": True,
        "has_touch": True,
        "device_scale_factor": 2,
    },
}

ANSWER = """Two sorted lists are merged in **linear time** by always taking the smaller head.

```python
def merge(left: list[int], right: list[int]) -> list[int]:
    \"\"\"Return one sorted list with the items of both.\"\"\"
    merged, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:  # stable: equal items keep their order
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    return merged + left[i:] + right[j:]
```

1. `merge([1, 4], [2, 3])` gives `[1, 2, 3, 4]`
2. an empty list is fine on either side; see [heapq.merge](https://docs.python.org/3/library/heapq.html)

| approach | time | memory |
| :-- | :-: | --: |
| two pointers | O(n + m) | O(n + m) |
| `sorted(a + b)` | O((n + m) log(n + m)) | O(n + m) |
"""


async def no_overflow(page: Page) -> None:
    wide = await page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide[0] == wide[1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
async def test_the_page_fits_and_can_be_read(open_page: Open, played: Played, size: str, scheme: str) -> None:
    async with open_page(color_scheme=scheme, **SIZES[size]) as (page, _):
        await expect(page.locator("#model-name")).to_have_text("smollm2-135m")
        await page.evaluate("document.fonts.ready")
        await page.screenshot(path=picture(f"empty-{scheme}-{size}"), animations="disabled")
        await no_overflow(page)
        assert await page.evaluate(CONTRAST) == []
        await page.get_by_role("button", name="Write a function").click()
        await page.get_by_label("Send").click()
        question = await played.question()
        question.say(*(ANSWER[start : start + 6] for start in range(0, 600, 6)))
        await expect(page.locator(".code-block .hljs-keyword").last).to_have_text("return")
        await page.screenshot(path=picture(f"streaming-{scheme}-{size}"), animations="disabled")
        question.say(ANSWER[600:])
        question.finish()
        await expect(page.get_by_role("button", name="Retry")).to_be_visible()
        await page.screenshot(path=picture(f"answer-{scheme}-{size}"), animations="disabled")
        await no_overflow(page)
        assert await page.evaluate(CONTRAST) == []
        await page.get_by_role("button", name="Settings", exact=True).click()
        await expect(page.get_by_label("Temperature")).to_be_visible()
        await page.screenshot(path=picture(f"settings-{scheme}-{size}"), animations="disabled")
        await no_overflow(page)
        assert await page.evaluate(CONTRAST) == []


async def test_the_switch_wins_over_the_system_and_is_remembered(open_page: Open) -> None:
    async with open_page(color_scheme="light") as (page, _):
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        light = await page.evaluate(ground)
        switch = page.get_by_role("button", name="Dark theme")
        await expect(switch).to_have_attribute("aria-pressed", "false")
        await switch.click()
        await expect(switch).to_have_attribute("aria-pressed", "true")
        dark = await page.evaluate(ground)
        assert dark != light
        await page.reload()
        assert await page.evaluate(ground) == dark
        await page.emulate_media(color_scheme="dark")
        await switch.click()
        assert await page.evaluate(ground) == light


async def test_the_page_follows_an_answer_until_its_reader_scrolls_up(open_page: Open, played: Played) -> None:
    async with open_page(viewport={"width": 800, "height": 500}) as (page, _):
        await ask(page, "hi")
        question = await played.question()
        question.say("line\n\n" * 40 + "so far")
        await expect(page.get_by_text("so far")).to_be_in_viewport()
        await page.mouse.move(400, 200)
        await page.evaluate("() => { window.still = new Promise((end) => addEventListener('scrollend', end)); }")
        await page.mouse.wheel(0, -600)
        await page.evaluate("still.then(() => null)")
        jump = page.get_by_role("button", name="Jump to the latest answer")
        await expect(jump).to_be_visible()
        there = await page.evaluate("scrollY")
        question.say("line\n\n" * 20 + "the end")
        await expect(page.locator(".prose > p").last).to_have_text("the end")
        assert await page.evaluate("scrollY") == there
        await jump.click()
        await expect(page.get_by_text("the end")).to_be_in_viewport()
        question.finish()


async def test_on_a_phone_enter_starts_a_line_and_fields_do_not_zoom(open_page: Open, played: Played) -> None:
    async with open_page(**SIZES["phone"]) as (page, _):
        field = page.get_by_label("Your question")
        await field.tap()
        await page.keyboard.type("one")
        await page.keyboard.press("Enter")
        await page.keyboard.type("two")
        await page.get_by_label("Send").tap()
        assert (await played.answer("ok")).body["messages"][0]["content"] == "one\ntwo"
        await page.get_by_role("button", name="Settings", exact=True).tap()
        small = await page.evaluate(
            "[...document.querySelectorAll('input[type=text], textarea')]"
            ".filter((field) => parseFloat(getComputedStyle(field).fontSize) < 16).length"
        )
        assert small == 0
