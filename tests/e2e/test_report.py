"""`make report` of the running stack: its figures are those of Prometheus and of the log, and it can be read."""

import json
import os
import re
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.async_api import Page

from stack.client import prometheus_value
from stack.report.units import seconds
from stack.smoke import await_true
from tests.e2e.conftest import Running
from tests.support.browser import CHROMIUM, chromium, opened, picture
from tests.support.contrast import CONTRAST

PATIENCE = 120
MODEL = "smollm2-135m"
SECRET = "the-bird-sang-at-noon"
HOSTILE = "<script>alert(1)</script>"
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
TOKENS = (
    ("Prompt tokens", "prompt_tokens", "serving_prompt_tokens_total"),
    ("of them cached", "cached_tokens", "serving_cached_prompt_tokens_total"),
    ("Generated tokens", "completion_tokens", "serving_completion_tokens_total"),
)
TIMES = {
    "First token": "gen_ai_server_time_to_first_token_seconds_bucket",
    "Duration": 'gen_ai_server_request_duration_seconds_bucket{error_type=""}',
    "Time between tokens": "serving_time_between_tokens_seconds_bucket",
}
ROWS = """(said) => {
    const tables = [...document.querySelectorAll("table")];
    const rows = tables.find((table) => table.caption.textContent.includes(said)).tBodies[0].rows;
    return [...rows].map((row) => [...row.cells].map((cell) => cell.textContent));
}"""
WRITTEN = re.compile(r"Open it in a browser: (\S+)")
SIZES: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1240, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1240, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True},
}
BASICS = """() => {
    const faults = [];
    const named = (element) => (element.getAttribute("aria-label") || element.textContent).trim();
    for (const svg of document.querySelectorAll("svg")) {
        if (!svg.getAttribute("aria-hidden") && !(svg.getAttribute("role") === "img" && named(svg)))
            faults.push("a picture without a name");
    }
    for (const chart of document.querySelectorAll("svg.chart")) {
        const box = chart.getBoundingClientRect();
        if (box.width < 200 || box.height < 80) faults.push("a chart that cannot be seen");
        if (!chart.closest("figure").querySelector("table caption")) faults.push("a chart without its values");
    }
    for (const table of document.querySelectorAll("table")) {
        if (!table.caption || !table.caption.textContent) faults.push("a table without a caption");
        for (const row of table.tBodies[0].rows) {
            if (row.cells[0].scope !== "row") faults.push("a row without a heading");
            if (row.cells.length !== table.tHead.rows[0].cells.length) faults.push("a row of another width");
        }
        for (const cell of table.tHead.rows[0].cells) if (!named(cell)) faults.push("a column without a name");
    }
    for (const region of document.querySelectorAll("[role=region]")) {
        if (!named(region) || region.tabIndex !== 0) faults.push("a region that no keyboard reaches");
    }
    const levels = [...document.querySelectorAll("h1, h2, h3")].map((heading) => Number(heading.localName[1]));
    levels.forEach((level, place) => {
        if (level > (levels[place - 1] ?? 0) + 1) faults.push("a heading that skips a level");
    });
    if (levels.filter((level) => level === 1).length !== 1) faults.push("not one h1");
    if (!document.documentElement.lang || !document.title) faults.push("no language or title");
    if (!document.querySelector("main")) faults.push("no main");
    if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window");
    return faults;
}"""


needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true",
    reason="chromium is not installed: `make test` as root installs it",
)


def ask_of_every_kind(stack: Running) -> set[str]:
    """Answers, refusals and a client that leaves, each with the secret; their ids."""

    def post(path: str, body: dict[str, Any]) -> requests.Response:
        stream = bool(body.get("stream"))
        headers = {"User-Agent": HOSTILE}
        return requests.post(stack.config.address + path, json=body, headers=headers, stream=stream, timeout=PATIENCE)

    turn = {"model": MODEL, "messages": [{"role": "user", "content": f"Say {SECRET}."}]}
    asked = [post("/v1/chat/completions", turn | {"max_tokens": tokens}) for tokens in (4, 8, 12)]
    asked.append(post("/v1/chat/completions", turn | {"temperature": -1}))
    asked.append(post("/v1/completions", {"model": MODEL, "prompt": f"{SECRET} " * 10_000}))
    asked.append(requests.get(f"{stack.config.address}/v1/models/{SECRET}", timeout=PATIENCE))
    with post("/v1/chat/completions", turn | {"stream": True, "ignore_eos": True}) as left:
        assert next(left.iter_lines())
    assert [each.status_code for each in asked] == [200, 200, 200, 400, 400, 404]
    return {each.headers["X-Request-ID"] for each in (*asked, left)}


def lines_of(stack: Running) -> list[dict[str, Any]]:
    texts = (text for name, text in stack.stack.log_lines(follow=False) if name == "app" and text.startswith("{"))
    return [line for line in map(json.loads, texts) if line["event"] == "request"]


def written(stack: Running) -> Path:
    """The page, once Prometheus has counted everything until now."""
    now = time.time()
    scraped = 'min(timestamp(process_start_time_seconds{job="app"}))'
    await_true(lambda: (prometheus_value(stack.config, scraped) or 0) > now, "a scrape", 60)
    done = stack.run("report")
    found = WRITTEN.search(done.stdout)
    assert found is not None, done.stdout
    return Path(found[1])


async def figures(page: Page) -> dict[str, str]:
    entries = await page.locator(".tiles div").all_inner_texts()
    return dict(entry.split("\n") for entry in entries)


async def rows(page: Page, caption: str) -> list[list[str]]:
    """The cells of the first table whose caption has this."""
    found: list[list[str]] = await page.evaluate(ROWS, caption)
    return found


@pytest.fixture(scope="module")
def report_file(_stack: Running) -> Path:
    """Written once for all tests, of the stack that they have as `stack`."""
    if not _stack.is_up:
        _stack.up()
    ids = ask_of_every_kind(_stack)
    await_true(lambda: ids <= {line["request_id"] for line in lines_of(_stack)}, "the line of every request", 60)
    return written(_stack)


def test_it_has_nothing_that_a_client_wrote(report_file: Path) -> None:
    text = report_file.read_text(encoding="utf-8")
    assert SECRET not in text
    assert HOSTILE not in text


@needs_chromium
async def test_its_figures_are_those_of_prometheus_and_of_the_log(stack: Running, report_file: Path) -> None:
    async with chromium() as browser, opened(browser, report_file.as_uri()) as (page, _):
        about = await page.locator("header p").first.inner_text()
        begin, end = (datetime.fromisoformat(f"{moment}+00:00").timestamp() for moment in MOMENT.findall(about))
        lines = [line for line in lines_of(stack) if begin <= moment_of(line) <= end + 1]
        assert len(lines) >= 7
        assert "since the stack was started. Instance: app" in about
        notes = await page.locator(".note").all_inner_texts()
        assert [note for note in notes if "the log has" in note] == [], "log and counters agree"

        shown = await figures(page)
        statuses = Counter(line["status"] for line in lines)
        assert shown["Requests"] == f"{len(lines):,}" == counted(stack, "serving_requests_total")
        assert shown["Answered"] == f"{statuses[200]:,}" == counted(stack, 'serving_requests_total{status="200"}')
        assert shown["Client left"] == f"{statuses[499]:,}" == counted(stack, 'serving_requests_total{status="499"}')
        assert shown["Refused"] == f"{statuses[400] + statuses[404]:,}" == counted(stack, "serving_refusals_total")
        for name, field, metric in TOKENS:
            assert shown[name] == f"{sum(line.get(field, 0) for line in lines):,}" == counted(stack, metric)

        (tenant,) = await rows(page, "Of ended requests that have a tenant")
        for cell, kind in zip(tenant[2:4], ("prompt", "completion"), strict=True):
            assert cell == counted(stack, f'serving_key_tokens_total{{key="{tenant[0]}",kind="{kind}"}}')
        times = {row[0]: row[1:] for row in await rows(page, "Over the whole period")}
        for place, share in enumerate((0.5, 0.95, 0.99)):
            for name, metric in TIMES.items():
                query = f"histogram_quantile({share}, sum by (le) ({metric}))"
                assert times[f"{name}, Prometheus"][place] == seconds(prometheus_value(stack.config, query) or 0)
        durations = sorted(line["duration_s"] for line in lines if line["status"] == 200)
        nearest = -(-len(durations) * 99 // 100) - 1  # the smallest that 99 % do not exceed
        assert times["Duration, log"][2] == seconds(durations[nearest])

        without = {(row[0], row[2]): int(row[4]) for row in await rows(page, "Requests without an answer")}
        reasons = Counter((reason_of(line), str(line["status"])) for line in lines if line["status"] >= 400)
        assert without == reasons
        slow = await rows(page, "that took longest")
        slowest = sorted(lines, key=lambda line: -line["duration_s"])[:10]
        assert [row[0] for row in slow] == [line["request_id"][:12] for line in slowest]
        assert slow[0][3] == slowest[0]["path"]
        bars = [row[1:] for row in await rows(page, "Requests per second")]
        assert sum(float(cell) for row in bars for cell in row if cell != "no samples") > 0


@needs_chromium
@pytest.mark.parametrize("size", SIZES)
async def test_it_can_be_read_everywhere(report_file: Path, size: str) -> None:
    async with chromium() as browser, opened(browser, report_file.as_uri(), **SIZES[size]) as (page, _):
        await page.screenshot(path=picture(f"report-{size}"), full_page=True)
        drawn = page.locator("svg.chart")
        assert await drawn.count() == 8
        marks = page.locator("polyline, circle, .bar")
        assert await drawn.filter(has=marks).count() == 7, "there are no preemptions"
        assert await page.evaluate(BASICS) == []
        await page.locator("details").evaluate_all("all => all.forEach((each) => { each.open = true; })")
        assert await page.evaluate(CONTRAST) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def moment_of(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def reason_of(line: dict[str, Any]) -> str:
    reason = line.get("error_reason")
    return f"{line['error_code']} ({reason})" if reason else str(line["error_code"])


def counted(stack: Running, selector: str) -> str:
    return f"{prometheus_value(stack.config, f'sum({selector})') or 0:,.0f}"
