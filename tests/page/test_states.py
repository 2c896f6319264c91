"""What the page says when there is no answer to be had: loading, full, closed, broken, offline."""

import re

import pytest
from playwright.async_api import expect

from tests.page.conftest import Open
from tests.page.played import Played
from tests.support.asking import ask
from tests.support.browser import picture

LOADING = (503, {"status": "starting", "phase": "loading", "progress": 0.42, "detail": "weights 3 of 7"})
NOT_READY = (503, {"status": "model_loading", "reason": "The model is not ready yet."})
FULL = (429, "overloaded", "The queue is full.", {"retry-after": "60"})
SOON = re.compile(r"rying again in (60|5\d) s\.")
HALF_A_MINUTE_LATER = re.compile(r"rying again in (30|[12]\d) s\.")
FULL_FOR_A_SECOND = (429, "overloaded", "The queue is full.", {"retry-after": "1"})


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_while_the_model_loads_its_progress_shows_and_a_question_waits(
    open_page: Open, played: Played, scheme: str
) -> None:
    ready, played.startup, played.readiness = (played.startup, played.readiness), LOADING, NOT_READY
    async with open_page(color_scheme=scheme, viewport={"width": 390, "height": 780}) as (page, watch):
        banner = page.get_by_label("State of the server")
        await expect(banner).to_contain_text("The model is loading. 42 %, weights 3 of 7")
        assert await page.get_by_label("Loading the model").get_attribute("value") == "0.42"
        await expect(page.locator("#model-name")).to_have_text("loading")
        await ask(page, "hi")
        await expect(page.locator(".notice")).to_contain_text("goes out as soon as the model is ready")
        await page.screenshot(path=picture(f"loading-{scheme}-phone"), full_page=True)
        played.startup, played.readiness = ready
        await played.answer("Ready now.")
        await expect(page.locator(".prose")).to_have_text("Ready now.")
        await expect(banner).to_be_hidden()
        watch.expect("status of 503")


async def test_a_question_asked_before_the_page_knows_the_server_waits_for_the_models_name(
    open_page: Open, played: Played
) -> None:
    played.told.clear()
    async with open_page() as (page, _):
        await ask(page, "one")
        await expect(page.get_by_text("Waiting for the first token")).to_be_visible()
        played.told.set()
        assert (await played.answer("first")).body["model"] == "smollm2-135m"
        await expect(page.locator(".prose")).to_have_text("first")


async def test_a_question_asked_before_the_page_knows_the_server_can_be_stopped(
    open_page: Open, played: Played
) -> None:
    played.told.clear()
    async with open_page() as (page, _):
        await ask(page, "one")
        await page.keyboard.press("Escape")
        await expect(page.locator(".notice")).to_have_text("You stopped this answer.")
        played.told.set()
        await ask(page, "two")
        assert [m["content"] for m in (await played.answer("ok")).body["messages"]] == ["two"]


async def test_a_load_that_begins_later_is_noticed_by_the_question(open_page: Open, played: Played) -> None:
    """The app was started anew: the page, which believes it ready, waits as long as the refusal says."""
    async with open_page() as (page, watch):
        await expect(page.locator("#model-name")).to_have_text("smollm2-135m")
        played.refusals = [(503, "model_loading", "The model is not ready yet.", {"retry-after": "60"})]
        await page.clock.install()
        await ask(page, "hi")
        notice = page.locator(".notice")
        await expect(notice).to_contain_text("The model is not ready yet. Trying again in")
        await page.clock.fast_forward(30_000)
        await expect(notice).to_contain_text(HALF_A_MINUTE_LATER)
        await page.clock.fast_forward(30_000)
        await played.answer("Back.")
        await expect(page.locator(".prose")).to_have_text("Back.")
        watch.expect("status of 503")


async def test_a_model_that_cannot_be_loaded_is_no_progress(open_page: Open, played: Played) -> None:
    played.startup = (503, {"status": "starting", "phase": "failed", "progress": 0.1, "detail": "/secret/path"})
    async with open_page() as (page, watch):
        banner = page.get_by_label("State of the server")
        await expect(banner).to_contain_text("The model could not be loaded.")
        await expect(banner.get_by_role("progressbar")).to_be_hidden()
        watch.expect("status of 503")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_full_queue_is_said_and_counted_down(open_page: Open, played: Played, scheme: str) -> None:
    played.refusals = [FULL]
    async with open_page(color_scheme=scheme) as (page, watch):
        await page.clock.install()
        await ask(page, "hi")
        notice = page.locator(".notice")
        await expect(notice).to_contain_text("The queue is full.")
        await expect(notice).to_contain_text(SOON)
        await page.clock.fast_forward(30_000)
        await expect(notice).to_contain_text(HALF_A_MINUTE_LATER)
        await page.screenshot(path=picture(f"queue-full-{scheme}-desktop"))
        await notice.get_by_role("button", name="Try now").click()
        await played.answer("There you are.")
        await expect(page.locator(".prose")).to_have_text("There you are.")
        watch.expect("status of 429")


async def test_a_full_queue_is_tried_again_by_itself_unless_switched_off(open_page: Open, played: Played) -> None:
    played.refusals = [FULL_FOR_A_SECOND]
    async with open_page() as (page, watch):
        await ask(page, "one")
        await played.answer("by itself")
        await expect(page.locator(".prose")).to_have_text("by itself")
        played.refusals = [FULL, FULL]
        await page.clock.install()
        await ask(page, "two")
        await page.get_by_label("Try again by itself").uncheck()
        notice = page.locator(".notice").last
        await expect(notice).to_contain_text(SOON)
        await page.clock.fast_forward(60_000)
        await expect(notice).to_contain_text("You can try again now.")
        await notice.get_by_role("button", name="Try now").click()
        await expect(notice).to_contain_text(SOON)
        await notice.get_by_role("button", name="Give up").click()
        await expect(notice).to_contain_text("You stopped this answer.")
        await page.reload()
        played.refusals = [FULL]
        await ask(page, "three")
        await expect(page.get_by_label("Try again by itself")).not_to_be_checked()
        assert played.asked.empty()
        watch.expect("status of 429")


async def test_a_key_is_asked_for_and_kept_in_this_tab_alone(open_page: Open, played: Played) -> None:
    played.key = "sesame"
    async with open_page() as (page, watch):
        await ask(page, "hi")
        dialog = page.get_by_role("dialog", name="This server asks for an API key")
        await expect(dialog.get_by_label("API key")).to_be_focused()
        await page.keyboard.type("wrong")
        played.key_refusal = "This API key expired at 2027-01-31 00:00 UTC."
        await page.keyboard.press("Enter")
        await expect(dialog).to_contain_text("did not accept the key that this tab has: This API key expired at 2027")
        await dialog.get_by_label("API key").fill("sesame")
        await page.keyboard.press("Enter")
        assert (await played.answer("open")).key == "sesame"
        await expect(page.locator(".prose")).to_have_text("open")
        assert "sesame" not in await page.evaluate("JSON.stringify({...localStorage}) + document.cookie")
        assert "sesame" in await page.evaluate("JSON.stringify({...sessionStorage})")
        await page.get_by_role("button", name="curl").click()
        shown = await page.locator("#curl-code").inner_text()
        assert "$API_KEY" in shown
        assert "sesame" not in await page.content()
        await page.keyboard.press("Escape")
        await page.reload()
        await ask(page, "again")
        assert (await played.answer("ok")).key == "sesame"
        await page.get_by_role("button", name="Settings", exact=True).click()
        await page.get_by_role("button", name="Forget it").click()
        assert "sesame" not in await page.evaluate("JSON.stringify({...sessionStorage})")
        watch.expect("status of 401")


async def test_without_a_key_the_question_is_kept(open_page: Open, played: Played) -> None:
    played.key = "sesame"
    async with open_page() as (page, watch):
        await ask(page, "hi")
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        await expect(page.locator(".notice")).to_contain_text("This server needs an API key.")
        await expect(page.get_by_role("button", name="Try again")).to_be_visible()
        await expect(page.locator(".question-text")).to_have_text("hi")
        watch.expect("status of 401")


async def test_an_error_within_the_stream_keeps_the_partial_text(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        question = await played.question()
        question.say("Half an ans")
        question.fail("The GPU ran out of memory.")
        await expect(page.locator(".notice")).to_contain_text("The GPU ran out of memory. What arrived is kept.")
        await expect(page.locator(".prose")).to_have_text("Half an ans")
        await expect(page.get_by_role("alert")).to_contain_text("The GPU ran out of memory.")
        await page.get_by_role("button", name="Try again").click()
        await played.answer("Whole.")
        await expect(page.locator(".prose")).to_have_text("Whole.")
        await expect(page.locator(".notice")).to_be_hidden()


async def test_an_answer_that_the_server_ended_early_says_why(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        question = await played.question()
        question.say("Half an ans")
        question.end_early("The request took too long.")
        await expect(page.locator(".notice")).to_contain_text("The request took too long. What arrived is kept.")
        await expect(page.locator(".prose")).to_have_text("Half an ans")


async def test_a_connection_that_breaks_keeps_the_partial_text(open_page: Open, played: Played) -> None:
    async with open_page() as (page, watch):
        await ask(page, "hi")
        question = await played.question()
        question.say("Half an ans")
        await expect(page.locator(".prose")).to_have_text("Half an ans")
        question.cut()
        await expect(page.locator(".notice")).to_contain_text("The connection ended before the answer did.")
        await expect(page.locator(".prose")).to_have_text("Half an ans")
        watch.expect("ERR_INCOMPLETE_CHUNKED_ENCODING")


async def test_a_stream_that_ends_without_a_reason_is_no_answer(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        question = await played.question()
        question.say("Half")
        question.end()
        await expect(page.locator(".notice")).to_contain_text("The connection ended before the answer did.")


async def test_offline_is_said_and_the_question_goes_out_when_it_is_over(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await expect(page.locator("#model-name")).to_have_text("smollm2-135m")
        await page.context.set_offline(True)
        await expect(page.get_by_label("State of the server")).to_contain_text("You are offline.")
        await ask(page, "hi")
        await expect(page.locator(".notice")).to_contain_text("goes out when the connection is back")
        await page.context.set_offline(False)
        await played.answer("Hello again.")
        await expect(page.locator(".prose")).to_have_text("Hello again.")


@pytest.mark.parametrize(
    ("status", "message"),
    [(400, "top_p must be less than or equal to 1."), (404, "There is no such model here."), (500, "It failed.")],
)
async def test_what_the_server_refuses_is_said_in_its_own_words(
    open_page: Open, played: Played, status: int, message: str
) -> None:
    played.refusals = [(status, "code", message, {})]
    async with open_page() as (page, watch):
        await ask(page, "hi")
        await expect(page.locator(".notice")).to_contain_text(message)
        watch.expect(f"status of {status}")


async def test_an_answer_at_its_limit_says_so(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        question = await played.question()
        question.say("and so on and")
        question.finish("length")
        await expect(page.locator(".notice")).to_contain_text("reached its token limit")
