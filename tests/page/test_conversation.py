"""A conversation: asking, streaming, stopping, asking again, and finding it all again after a reload."""

from playwright.async_api import expect

from tests.page.conftest import Open
from tests.page.played import Played
from tests.support.asking import ask


async def test_an_answer_streams_in_and_is_measured(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await expect(page.locator("#model-name")).to_have_text("smollm2-135m")
        await ask(page, "Say hello.")
        question = await played.question()
        assert question.body == {
            "model": "smollm2-135m",
            "messages": [{"role": "user", "content": "Say hello."}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        answer = page.locator(".answer")
        await expect(answer.get_by_text("Waiting for the first token")).to_be_visible()
        question.say("Hello")
        await expect(answer.locator(".prose")).to_have_text("Hello")
        await expect(answer).to_have_attribute("aria-busy", "true")
        question.say(", **you**", " there")
        await expect(answer.locator(".prose strong")).to_have_text("you")
        await expect(answer.locator("summary")).to_contain_text("first token")
        await expect(answer.locator("summary")).to_contain_text("about 3 tokens")
        question.finish()
        await expect(answer.locator("summary")).to_contain_text("8.0 tokens/s · 5 tokens")
        await expect(answer).to_have_attribute("aria-busy", "false")
        await answer.locator("summary").click()
        for said in ("31 tokens, 16 cached", "12 ms", "250 ms", "500 ms", "4f2a" * 8):
            await expect(answer.locator("dl")).to_contain_text(said)
        await expect(page.get_by_role("status")).to_contain_text("The answer is complete")


async def test_the_next_question_brings_the_conversation_along(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "one")
        await played.answer("first")
        await ask(page, "two")
        second = await played.question()
        assert [message["content"] for message in second.body["messages"]] == ["one", "first", "two"]
        assert [message["role"] for message in second.body["messages"]] == ["user", "assistant", "user"]
        second.finish()


async def test_settings_are_sent_when_set_and_kept(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await page.get_by_role("button", name="Settings", exact=True).click()
        assert await page.get_by_label("Temperature").get_attribute("placeholder") == "The model's own"
        await page.get_by_label("System prompt").fill("Be brief.")
        await page.get_by_label("Temperature").fill("0")
        await page.get_by_label("Top k").fill("4.5")
        await expect(page.get_by_text("This must be a whole number.")).to_be_visible()
        await page.get_by_label("Max tokens").fill("64")
        await page.get_by_label("Stop strings").fill("END\n\n###")
        await page.reload()
        await ask(page, "hi")
        body = (await played.answer("ok")).body
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
        assert {
            name: body[name] for name in body if name not in ("model", "messages", "stream", "stream_options")
        } == {
            "temperature": 0,
            "max_completion_tokens": 64,
            "stop": ["END", "###"],
        }
        await page.get_by_role("button", name="Settings", exact=True).click()
        await page.get_by_role("button", name="The model's own for all").click()
        await expect(page.get_by_label("Temperature")).to_have_value("")


async def test_escape_stops_an_answer_and_keeps_what_came(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "count")
        question = await played.question()
        question.say("1, 2, ")
        await expect(page.locator(".prose")).to_have_text("1, 2,")
        await page.keyboard.press("Escape")
        await expect(page.locator(".notice")).to_have_text("You stopped this answer.")
        await question.left.wait()
        await expect(page.locator(".prose")).to_have_text("1, 2,")
        await expect(page.get_by_label("Your question")).to_be_focused()


async def test_the_stop_button_stops_before_the_first_token(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "count")
        question = await played.question()
        await page.get_by_label("Stop the answer").click()
        await question.left.wait()
        await expect(page.locator(".notice")).to_have_text("You stopped this answer.")
        await ask(page, "again")
        assert [m["content"] for m in (await played.answer("ok")).body["messages"]] == ["again"]


async def test_retry_asks_the_last_question_again(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "one")
        first = await played.answer("first")
        await page.get_by_role("button", name="Retry").click()
        second = await played.question()
        assert second.body == first.body
        second.say("second")
        second.finish()
        await expect(page.locator(".prose")).to_have_text("second")
        await expect(page.locator(".turn")).to_have_count(1)


async def test_the_last_question_can_be_edited(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "wrogn")
        await played.answer("What?")
        await page.get_by_role("button", name="Edit").click()
        await expect(page.get_by_text("Editing your last question")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_label("Your question")).to_have_value("")
        await page.keyboard.press("ArrowUp")
        await expect(page.get_by_label("Your question")).to_have_value("wrogn")
        await ask(page, "right")
        assert [m["content"] for m in (await played.answer("Good.")).body["messages"]] == ["right"]
        await expect(page.locator(".question-text")).to_have_text(["right"])
        await expect(page.locator(".prose")).to_have_text(["Good."])


async def test_a_reload_keeps_the_conversation_and_says_what_it_broke_off(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "one")
        await played.answer("first")
        await ask(page, "two")
        question = await played.question()
        question.say("half")
        await expect(page.locator(".prose").last).to_have_text("half")
        await page.reload()
        await question.left.wait()
        await expect(page.locator(".prose")).to_have_text(["first", "half"])
        await expect(page.locator(".notice").last).to_contain_text("reloaded before the answer was complete")
        await page.get_by_role("button", name="New conversation").click()
        await expect(page.locator(".turn")).to_have_count(0)
        await page.reload()
        await expect(page.locator(".turn")).to_have_count(0)
        await expect(page.get_by_role("heading", name="Ask the model")).to_be_visible()


async def test_a_new_conversation_stops_the_old_one(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "one")
        question = await played.question()
        question.say("text")
        await expect(page.locator(".prose")).to_have_text("text")
        await page.get_by_role("button", name="New conversation").click()
        await question.left.wait()
        await ask(page, "two")
        assert [m["content"] for m in (await played.answer("ok")).body["messages"]] == ["two"]
        await expect(page.locator(".prose")).to_have_text(["ok"])
