"""Everything by keyboard, and what a screen reader is told."""

from playwright.async_api import Page, Route, expect

from tests.page.conftest import Open
from tests.page.played import Played
from tests.support.asking import ask

TO_THE_TOP = "document.body.tabIndex = -1; document.body.focus()"
HEAR_IT_CLOSE = "(panel) => { window.itClosed = new Promise((done) => panel.addEventListener('close', done)); }"


async def focused(page: Page) -> str:
    return str(
        await page.evaluate(
            "(document.activeElement.getAttribute('aria-label') || document.activeElement.id"
            " || document.activeElement.textContent).trim()"
        )
    )


async def test_shift_enter_starts_a_line_and_a_composing_input_method_keeps_enter(
    open_page: Open, played: Played
) -> None:
    async with open_page() as (page, _):
        field = page.get_by_label("Your question")
        await expect(field).to_be_focused()
        await page.keyboard.press("Enter")  # nothing to send
        await page.keyboard.type("one")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("two")
        await field.evaluate(
            "(field) => field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true}))"
        )
        await expect(field).to_have_value("one\ntwo")
        assert played.asked.empty()
        await page.keyboard.press("Enter")
        assert (await played.answer("ok")).body["messages"][0]["content"] == "one\ntwo"
        await expect(field).to_have_value("")


async def test_the_order_of_the_focus_is_the_order_of_the_page(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        await played.answer("```js\nlet a;\n```")
        await expect(page.get_by_role("button", name="Retry")).to_be_visible()
        await page.evaluate(TO_THE_TOP)
        order = []
        for _ in range(12):
            await page.keyboard.press("Tab")
            order.append(await focused(page))
        assert order[:4] == ["Skip to the question", "New conversation", "Dark theme", "Settings"]
        assert order[4:10] == ["Edit", "Copy code", "Code, js", "Copy answer", "Retry", "curl"]
        assert order[11] == "question"


async def test_the_skip_link_leads_to_the_question(open_page: Open) -> None:
    async with open_page() as (page, _):
        await page.evaluate("document.activeElement.blur()")
        await page.get_by_role("link", name="Skip to the question").focus()
        await expect(page.get_by_role("link", name="Skip to the question")).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Your question")).to_be_focused()


async def test_the_focus_can_be_seen_everywhere(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        await played.answer("a [link](https://example.com)")
        await expect(page.get_by_role("button", name="Retry")).to_be_visible()
        await page.evaluate(TO_THE_TOP)
        for _ in range(8):  # as many controls as there are at least
            await page.keyboard.press("Tab")
            ring = await page.evaluate(
                "(() => { const at = document.activeElement, field = at.closest('.composer');"
                " return getComputedStyle(at).outlineStyle + (field ? getComputedStyle(field).boxShadow : ''); })()"
            )
            assert ring != "none", await focused(page)


async def test_the_settings_open_and_close_by_keyboard(open_page: Open) -> None:
    for width in (390, 1280):
        async with open_page(viewport={"width": width, "height": 800}) as (page, _):
            opener = page.get_by_role("button", name="Settings", exact=True)
            await opener.focus()
            await page.keyboard.press("Enter")
            await expect(page.locator("#settings")).to_be_visible()
            await expect(opener).to_have_attribute("aria-expanded", "true")
            assert await page.locator("#settings").evaluate("(panel) => panel.contains(document.activeElement)")
            await page.keyboard.press("Escape")
            await expect(page.locator("#settings")).to_be_hidden()
            await expect(opener).to_be_focused()


async def test_the_settings_that_close_leave_the_focus_to_who_goes_on(open_page: Open) -> None:
    """The browser says some time later that it has closed them: by then a quick reader is in another field."""
    async with open_page() as (page, _):
        await page.get_by_role("button", name="Settings", exact=True).click()
        await page.locator("#settings").evaluate(HEAR_IT_CLOSE)
        await page.get_by_label("Temperature").evaluate(
            """(field) => {
                field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}));
                document.getElementById('question').focus();
            }"""
        )
        await page.evaluate("itClosed.then(() => null)")
        assert await focused(page) == "question"


async def test_the_settings_stay_open_when_the_room_beside_the_conversation_goes(open_page: Open) -> None:
    async with open_page(viewport={"width": 1280, "height": 800}) as (page, _):
        opener = page.get_by_role("button", name="Settings", exact=True)
        await opener.click()
        await page.locator("#settings").evaluate(HEAR_IT_CLOSE)
        await page.set_viewport_size({"width": 700, "height": 800})
        await page.evaluate("itClosed.then(() => null)")
        await expect(page.locator("#settings:modal")).to_be_visible()
        assert await page.locator("#open-settings").get_attribute("aria-expanded") == "true"
        await page.keyboard.press("Escape")
        await expect(page.locator("#settings")).to_be_hidden()
        await expect(opener).to_have_attribute("aria-expanded", "false")


async def test_the_page_shows_itself_when_its_keys_work(open_page: Open) -> None:
    """A key that is pressed before that would do nothing, or start a line where it should send."""
    async with open_page() as (page, _):

        async def late(route: Route) -> None:
            await page.evaluate("(async () => { for (let i = 0; i < 100; i++) await fetch('readyz'); })()")
            await route.continue_()

        await page.route("**/main.js", late)
        await page.add_init_script(
            """window.atFirst = new Promise((shown) => {
                requestAnimationFrame(() => shown(document.getElementById("send")?.dataset.mode));
            });"""
        )
        await page.reload()
        assert await page.evaluate("atFirst") == "send"


async def test_enter_during_an_answer_keeps_the_question_and_says_why(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "one")
        question = await played.question()
        question.say("first")
        field = page.get_by_label("Your question")
        await field.fill("two")
        await page.keyboard.press("Enter")
        why = page.get_by_text("One answer at a time").first
        await expect(why).to_be_visible()
        await expect(page.get_by_role("status")).to_contain_text("your question stays here")
        await expect(field).to_have_value("two")
        question.finish()
        await expect(page.get_by_label("Send")).to_be_enabled()
        await expect(why).to_be_hidden()
        await page.keyboard.press("Enter")
        assert (await played.answer("second")).body["messages"][-1]["content"] == "two"


async def test_a_streaming_answer_is_announced_once_and_not_word_by_word(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await page.evaluate(
            "const status = document.querySelector('#status'); window.said = [];"
            "new MutationObserver(() => { if (status.textContent) said.push(status.textContent); })"
            ".observe(status, {childList: true})"
        )
        await ask(page, "hi")
        await played.answer(*("word " * 50).split(" "))
        await expect(page.get_by_role("status")).to_contain_text("The answer is complete")
        assert len(await page.evaluate("said")) == 2  # that it was asked, and that it was answered
        assert await page.locator("#conversation").get_attribute("aria-live") == "off"


async def test_every_control_has_a_name_and_no_id_is_there_twice(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        await played.answer("```js\nlet a;\n```")
        await ask(page, "hi")
        await played.answer("```js\nlet b;\n```")
        await page.get_by_role("button", name="Settings", exact=True).click()
        nameless = await page.evaluate(
            "[...document.querySelectorAll('button, input, textarea, a')].filter((e) => !(e.textContent.trim()"
            " || e.getAttribute('aria-label') || e.labels?.length)).map((e) => e.outerHTML)"
        )
        assert nameless == []
        ids = await page.evaluate("[...document.querySelectorAll('[id]')].map((element) => element.id)")
        assert len(ids) == len(set(ids))
