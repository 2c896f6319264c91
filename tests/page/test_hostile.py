"""No answer runs a script, calls another host, or dresses as a part of the page."""

import json
import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.page.conftest import Open
from tests.page.played import Played, serving
from tests.support.asking import ask
from tests.support.browser import Watch, opened

HOSTILE = json.loads(Path(__file__).with_name("hostile.json").read_text(encoding="utf-8"))
ANSWERS: dict[str, str] = HOSTILE["answers"]
"""Markdown, as a model might write it, or be made to write it, to get a script to run or a host to be called."""
MARKUP: dict[str, str] = HOSTILE["markup"]
"""HTML, as if the Markdown renderer had a hole."""

TRAP = "() => { window.pwned = window.alert = () => { window.wasPwned = true; }; }"

LOOK = """(root) => {
    const ours = (element) => element.closest("figcaption") || element.matches("figure.code-block, pre[role=region]");
    const elements = [...root.querySelectorAll("*")].filter((element) => !ours(element));
    return {
        tags: [...new Set(elements.map((element) => element.localName))],
        attributes: [...new Set(elements.flatMap((element) => element.getAttributeNames()))],
        classes: [...new Set(elements.flatMap((element) => [...element.classList]))],
        links: elements.filter((element) => element.localName === "a")
            .map((link) => [link.getAttribute("href"), link.rel, link.target]),
    };
}"""

TAGS = {"h1", "h2", "h3", "h4", "h5", "h6", "li", "ol", "ul", "table", "tbody", "td", "th", "thead", "tr", "p", "pre"}
TAGS |= {"a", "blockquote", "br", "code", "del", "em", "hr", "s", "span", "strong"}
CLASS = re.compile(r"hljs(-[a-z-]+)?|[a-z]+_|language-\S{1,30}|align-(left|center|right)")
REL = "noopener noreferrer nofollow"


def _check(seen: dict[str, Any]) -> None:
    assert set(seen["tags"]) <= TAGS
    assert set(seen["attributes"]) <= {"class", "href", "rel", "start", "target", "title"}
    assert [name for name in seen["classes"] if not CLASS.fullmatch(name)] == []
    for href, rel, target in seen["links"]:
        if href is not None:
            assert href.startswith(("https://", "http://", "mailto:"))
            assert (rel, target) == (REL, "_blank")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(browser: Browser) -> AsyncGenerator[tuple[Page, Watch, Played], None]:
    """One page for all of them: what one leaves behind, the next would show. Whatever it does is a failure."""
    async with serving() as played, opened(browser, played.url) as (page, watch):
        await page.evaluate(TRAP)
        yield page, watch, played


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_stays_text(stage: tuple[Page, Watch, Played], name: str) -> None:
    """It comes in small pieces, so that every unfinished form of it is rendered too."""
    page, watch, played = stage
    await page.get_by_role("button", name="New conversation").click()
    await ask(page, "hi")
    question = await played.question()
    text = ANSWERS[name]
    step = max(1, len(text) // 40)
    question.say(*(text[start : start + step] for start in range(0, len(text), step)))
    question.finish()
    await expect(page.locator(".answer")).to_have_attribute("aria-busy", "false")
    _check(await page.locator(".prose").evaluate(LOOK))
    assert await page.evaluate("window.wasPwned") is None
    assert await page.evaluate("for (const name in {}) throw new Error(name)") is None
    assert watch.complaints == []


@pytest.mark.parametrize("name", MARKUP)
async def test_the_last_wall_stands_alone(stage: tuple[Page, Watch, Played], name: str) -> None:
    page, watch, _ = stage
    seen = await page.evaluate(
        """async (html) => {
            const main = document.querySelector("script[type=module]").src;
            const { sanitize } = await import(main.replace("main.js", "markup/sanitize.js"));
            const root = document.createElement("div");
            root.append(sanitize(html));
            document.body.append(root);
            const seen = (LOOK)(root);
            root.remove();
            return seen;
        }""".replace("LOOK", LOOK),
        MARKUP[name],
    )
    _check(seen)
    assert await page.evaluate("window.wasPwned") is None
    # DOMPurify looks at it in a document that nobody sees, where the policy speaks up already.
    blocked = re.compile("(Executing|Applying) inline .* violates the following Content Security Policy")
    watch.complaints = [complaint for complaint in watch.complaints if not blocked.match(complaint)]
    assert watch.complaints == []


async def test_the_policy_refuses_what_would_get_past_everything(open_page: Open, played: Played) -> None:
    """Not our code's doing but the browser's: no inline script, no string as HTML, no other host."""
    async with open_page() as (page, watch):
        refused = await page.evaluate(
            """async () => {
                const script = document.createElement("script");
                const refused = [];
                for (const attempt of [
                    () => { document.body.innerHTML = "<p>"; },
                    () => { script.text = "window.wasPwned = true"; document.body.append(script); },
                    () => trustedTypes.createPolicy("other", { createHTML: (html) => html }),
                    () => fetch("https://evil.example/"),
                ]) try { await attempt(); } catch { refused.push(attempt.toString()); }
                return refused.length;
            }"""
        )
        assert refused == 4
        assert await page.evaluate("window.wasPwned") is None
        watch.expect("Content Security Policy|Trusted|Refused")
        watch.complaints = [complaint for complaint in watch.complaints if complaint != "asked https://evil.example/"]


async def test_a_link_that_shows_another_address_says_where_it_leads(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        await played.answer(
            "[https://bank.com/login](https://evil.example/) [www.bank.com](https://evil.example) "
            "[bank.com](https://bank.com@evil.example) [heapq.merge](https://docs.python.org/3/) https://bank.com/x"
        )
        await expect(page.locator(".prose a")).to_have_text(
            [
                "https://bank.com/login (opens evil.example)",
                "www.bank.com (opens evil.example)",
                "bank.com (opens evil.example)",
                "heapq.merge",
                "https://bank.com/x",
            ]
        )


async def test_an_image_is_a_link_to_it(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        await played.answer("![a cat](https://evil.example/cat.png)")
        link = page.locator(".prose a")
        await expect(link).to_have_text("Image: a cat")
        await expect(link).to_have_attribute("href", "https://evil.example/cat.png")
        await expect(page.locator(".prose img")).to_have_count(0)


async def test_an_unfinished_fence_is_code_already(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        await ask(page, "hi")
        question = await played.question()
        question.say("Look:\n\n```python\ndef add(a, b):\n")
        code = page.locator(".code-block")
        await expect(code.locator(".hljs-keyword")).to_have_text("def")
        await expect(code.locator(".language")).to_have_text("python")
        question.say("    return a + b\n```\n\nDone.")
        await expect(page.locator(".prose > p").last).to_have_text("Done.")
        await expect(code).to_have_count(1)
        question.finish()


LONG_LINES = ("x" * 20_000, "`" + "y" * 5000 + "`", "| " + "z" * 3000 + " |\n| - |", "```\n" + "w" * 9000)


async def test_a_very_long_line_never_makes_a_phone_scroll_sideways(open_page: Open, played: Played) -> None:
    async with open_page(viewport={"width": 360, "height": 640}) as (page, _):
        for text in LONG_LINES:
            await ask(page, "q" * 3000)
            await played.answer(text)
            await expect(page.locator(".answer").last).to_have_attribute("aria-busy", "false")
            assert await page.evaluate("document.documentElement.scrollWidth") == 360


KEPT = ('{"a": 1', "[null, 1, {}]", '[{"question": {"__proto__": 1}, "answer": []}]', '{"__proto__": {"x": 1}}')


async def test_what_somebody_else_wrote_into_the_storage_is_no_conversation(open_page: Open, played: Played) -> None:
    async with open_page() as (page, _):
        for kept in KEPT:
            await page.evaluate("(kept) => sessionStorage.setItem('playground.conversation', kept)", kept)
            await page.evaluate("(kept) => localStorage.setItem('playground.settings', kept)", kept)
            await page.reload()
            await expect(page.get_by_role("heading", name="Ask the model")).to_be_visible()
        await ask(page, "hi")
        await played.answer("ok")
        await expect(page.locator(".prose")).to_have_text("ok")
