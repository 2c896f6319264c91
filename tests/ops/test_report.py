"""`make report`: its parts, against a real Prometheus where it reads one; hostile names, and what is missing."""

import json
import math
import re
import stat
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import prometheus_client
import psutil
import pytest
from prometheus_client import CollectorRegistry, ProcessCollector

from app.observability.metrics.observer import Metrics
from stack.config import load_config
from stack.native.stack import NativeStack
from stack.protocol import StackError
from stack.report import units
from stack.report.command import report
from stack.report.growth import growth
from stack.report.logged import logged
from stack.report.measured import Measured, measured, quantile_of_all, sums
from stack.report.page import Report, page
from stack.report.period import HOUR, Period, length, period
from stack.report.prometheus import Prometheus, Silent
from stack.report.quantiles import of_buckets, of_values
from stack.smoke import await_true
from tests.support.events import one_of_every_kind
from tests.support.ports import wait_for_port
from tests.support.prometheus import Prometheus as RealPrometheus
from tests.support.prometheus import free_port, running_prometheus

NOW = 1_800_000_000.0
HOSTILE = "</td><script>alert(1)</script>\u202e\x1b[2J\"'&"


def line(**fields: Any) -> tuple[str, str]:
    about: dict[str, Any] = {
        "timestamp": stamp(NOW - 10),
        "event": "request",
        "request_id": "0123456789abcdef",
        "tenant": "blue",
    }
    about |= {"path": "/v1/chat/completions", "status": 200, "duration_s": 2.0, "finish_reason": "stop"}
    return "app", json.dumps(about | fields)


def stamp(moment: float) -> str:
    return f"{units.date(moment).replace(' ', 'T')}.000000Z"


def hour() -> Period:
    return Period(NOW - HOUR, NOW, "the last hour")


def nothing_measured(**fields: Any) -> Measured:
    """An hour without traffic."""
    names = ("requests", "refusals", "tokens", "step_tokens", "key_tokens", "key_requests", "preemptions")
    grown: dict[str, Any] = {name: {} for name in (*names, "first_token", "duration", "between_tokens")}
    levels: dict[str, Any] = {name: {} for name in ("allocated", "reserved", "used", "total", "fullest")}
    read = [True] * hour().bins
    about = {"instances": ("app",), "read": read, "process": [2.0**30] * hour().bins}
    return Measured(**(about | grown | levels | fields))


def shown(**fields: Any) -> str:
    about: dict[str, Any] = {"period": hour(), "model": "tiny", "measured": nothing_measured(), "silence": ""}
    return page(Report(**(about | {"logged": logged([], hour())} | fields)))


class Elements(HTMLParser):
    """The names of a page's elements, its texts, and whether each was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.texts: list[str] = []
        self.attributes: set[str] = set()
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_period_is_the_last_hour_or_shorter_or_what_was_asked_for() -> None:
    assert period(None, NOW - 7200, NOW) == Period(NOW - 3600, NOW, "the last hour")
    assert period(None, None, NOW).seconds == 3600
    assert period(None, NOW - 600, NOW) == Period(NOW - 600, NOW, "since the stack was started")
    assert period(length("6h"), NOW - 600, NOW) == Period(NOW - 21_600, NOW, "as asked for")


@pytest.mark.parametrize("text", ["", "6", "h", "-6h", "5s", "1.5h", "six hours", "6h "])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(StackError, match=r"90m, 6h or 2d"):
        length(text)


def test_bins_divide_the_period() -> None:
    for seconds in (15, 100, 600, 3600, 86_400):
        about = Period(NOW - seconds, NOW, "")
        assert 1 <= about.bins <= 60
        assert about.bins * about.width == pytest.approx(seconds)
        assert (about.bin_of(NOW - seconds), about.bin_of(NOW)) == (None, about.bins - 1)
        assert about.bin_of(about.moment(0) + 0.001) == 0
        assert about.bin_of(NOW + 0.001) is None


RUNNING = dict.fromkeys(range(10), 100.0)


@pytest.mark.parametrize(
    ("values", "started", "expected"),
    [
        ({0: 5, 1: 5, 2: 8}, RUNNING, {0: 0, 1: 0, 2: 3}),
        ({2: 3, 3: 4}, RUNNING, {2: 3, 3: 1}),
        ({0: 5, 5: 9}, RUNNING, {0: 0, 5: 4}),
        ({0: 5, 2: 1, 3: 2}, {0: 100.0, 2: 2000.0, 3: 2000.0}, {0: 0, 2: 1, 3: 1}),
        ({0: 5, 2: 7}, {0: 100.0, 2: 2000.0}, {0: 0, 2: 7}),
        ({4: 6}, {4: 1500.0}, {4: 6}),
        ({4: 6}, {4: 100.0}, {4: 0}),
    ],
    ids=[
        "grows", "appears above 0", "over a gap", "starts anew", "starts anew and grows past",
        "a process that began in the period", "a process that was first read in the period",
    ],
)  # fmt: skip  # a name of each beside its neighbours
def test_growth_is_counted_from_sample_to_sample(
    values: dict[int, float], started: dict[int, float], expected: dict[int, float]
) -> None:
    assert growth(values, started, begin=1000.0) == expected


def test_exact_quantiles_are_values() -> None:
    assert [of_values(share, range(1, 101)) for share in (0.5, 0.95, 0.99)] == [50, 95, 99]
    assert (of_values(0.99, [3.0]), of_values(0.5, [])) == (3.0, None)


def test_quantiles_of_buckets_at_their_ends() -> None:
    assert of_buckets(0.5, {}) is None
    assert of_buckets(0.5, {1.0: 0, math.inf: 0}) is None
    assert of_buckets(0.5, {1.0: 0, 2.0: 0, math.inf: 4}) == 2.0
    assert of_buckets(0.5, {1.0: 4, 2.0: 4, math.inf: 4}) == 0.5


@pytest.mark.parametrize("highest", [0.003, 0.7, 1, 3.2, 9.99, 47, 12_345, 3 * 2**30])
@pytest.mark.parametrize("base", [2, 10])
def test_an_axis_has_few_marks_and_reaches_the_highest_value(highest: float, base: int) -> None:
    marks = units.steps(highest, base=base)
    assert 2 <= len(marks) <= 5
    assert marks[0] == 0
    assert marks[-1] >= highest > marks[-2]


@pytest.mark.parametrize("seconds", [15, 400, 3600, 86_400, 14 * 86_400])
def test_times_below_an_axis_are_round_and_few(seconds: float) -> None:
    found = units.moments(NOW + 7 - seconds, NOW + 7)
    assert 1 <= len(found) <= 5
    assert all(NOW + 7 - seconds <= moment <= NOW + 7 for moment in found)


def test_a_log_line_gives_figures_and_no_content() -> None:
    secret = "SECRET"
    content = dict.fromkeys(("prompt", "response", "error_message", "exception", "user", "user_agent"), secret)
    lines = [
        line(prefill_s=0.5, decode_s=1.5, prompt_tokens=7, completion_tokens=3, cached_tokens=2, **content),
        line(path=f"/v1/models/{secret}", status=404, error_code="not_found", finish_reason=None, **content),
        line(timestamp=stamp(NOW - HOUR - 1)),
        ("nginx", line()[1]),
        ("app", '{"event": "request", "timest'),
        ("app", "no JSON"),
        ("app", '{"event": "started", "timestamp": "2026-01-01T00:00:00Z", "of": "request"}'),
        ("app", '["request"]'),
    ]
    found = logged(lines, hour())
    assert [each.tenant for each in found.requests] == ["blue", "blue"]
    assert found.by_tenant() == {"blue": {"requests": 2, "prompt": 7, "cached": 2, "completion": 3}}
    assert list(found.without_answer()) == [("refused", 404, "not_found", "")]
    assert found.requests[0].stages == {"prefill": 0.5, "decode": 1.5}
    assert found.oldest == pytest.approx(NOW - 10)
    assert secret not in repr(found)
    assert secret not in shown(logged=found)


def test_a_hostile_name_is_text() -> None:
    kinds = {"tenant": HOSTILE, "request_id": HOSTILE, "error_code": HOSTILE, "error_reason": HOSTILE}
    found = logged([line(status=400, path=HOSTILE, **kinds)], hour())
    bins = [1.0] * hour().bins
    grown: dict[str, Any] = {"key_tokens": {(HOSTILE, "prompt"): bins}, "refusals": {(HOSTILE, HOSTILE): bins}}
    grown |= {"preemptions": {(HOSTILE,): bins}, "requests": {(HOSTILE, HOSTILE): bins}}
    memory = {"used": {HOSTILE: bins}, "total": {HOSTILE: bins}}
    text = shown(model=HOSTILE, logged=found, measured=nothing_measured(instances=(HOSTILE,), **grown, **memory))
    parsed = Elements(text)
    assert "script" not in parsed.names
    assert not any(name.startswith("on") for name in parsed.attributes)
    assert not {"\u202e", "\x1b"} & set(text)
    assert sum("<script>alert(1)</script>" in each for each in parsed.texts) > 5


def test_the_page_asks_for_nothing_and_names_its_period_and_instance() -> None:
    text = shown()
    assert not {"script", "link", "img", "iframe", "base", "form"} & Elements(text).names
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src &#x27;none&#x27;" in text
    assert f"{units.date(NOW - HOUR)} to {units.date(NOW)} UTC: 1 h, the last hour. Instance: app." in text


def test_an_hour_without_traffic_says_so() -> None:
    texts = Elements(shown()).texts
    assert texts.count("No traffic") == 6, "two charts of traffic, three of times, and the first token's figure"
    assert texts.count("No traffic.") == 2, "tenants, and the slowest requests"
    assert "No preemptions" in texts


def test_gaps_are_gaps() -> None:
    read = [place not in (3, 4) for place in range(60)]
    bins = [0.0 if place in (3, 4) else 6.0 for place in range(60)]
    text = shown(measured=nothing_measured(read=read, requests={("stop", "200"): bins}))
    since, until = units.clock(NOW - HOUR + 180), units.clock(NOW - HOUR + 300)
    assert f"Prometheus has no samples from {since} to {until}" in text
    assert "Prometheus has no samples of 2 min of this period" in text
    assert "no samples" in Elements(text).texts


def test_a_difference_between_log_and_counters_is_said() -> None:
    bins = [0.0] * 59 + [3.0]
    found = nothing_measured(requests={("stop", "200"): bins})
    assert "Prometheus counted 3 requests, the log has 1." in shown(measured=found, logged=logged([line()], hour()))
    assert "Prometheus counted 3" not in shown(measured=found, logged=logged([line()] * 3, hour()))


def test_without_prometheus_the_logs_part_is_there() -> None:
    text = shown(measured=None, silence="Nothing answers", logged=logged([line(completion_tokens=41)], hour()))
    assert "Prometheus is missing: Nothing answers." in text
    assert "0123456789ab" in text
    assert ">41<" in text
    assert "Requests per second" not in text


def test_the_report_of_a_stack_that_stopped_is_of_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = [stamp(time.time() - ago) for ago in (50, 30, 10)]
    (tmp_path / "logs").mkdir()
    for name, moment in zip(("app.log.2", "app.log.1", "app.log"), ended, strict=True):
        (tmp_path / "logs" / name).write_text(line(timestamp=moment)[1] + "\n")
    config = load_config({"STATE_DIR": str(tmp_path), "MODE": "native"}, Path("no.env"))
    assert [json.loads(text)["timestamp"] for _, text in NativeStack(config).log_lines(follow=False)] == ended
    report(config, [])
    file = tmp_path / "report.html"
    said = capsys.readouterr().out
    assert str(file) in said
    assert "The last hour, 3 requests in the log." in said
    assert "Prometheus is missing: the stack is not running." in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == ["logs", "report.html"]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, RealPrometheus]]:
    """A real Prometheus that has read the app's own metrics, after one event of each kind."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    metrics = Metrics(registry)
    port = free_port()
    server, _ = prometheus_client.start_http_server(port, "127.0.0.1", registry)
    wait_for_port(port)
    folder = tmp_path_factory.mktemp("prometheus")
    with running_prometheus(folder, {"app": f"127.0.0.1:{port}"}, "1s") as prometheus:
        found = Prometheus(prometheus.url)
        await_true(lambda: found.value("max(serving_requests_total)") == 0, "a sample before the events", 60)
        for event in one_of_every_kind():
            metrics.notify(event)
        await_true(lambda: found.value("max(serving_requests_total)"), "a sample after the events", 60)
        await_true(lambda: found.value("max(job_device:serving_device_memory_used:ratio)"), "a recorded sample", 60)
        yield found, prometheus
    server.shutdown()


def _since_before_its_start() -> Period:
    """This process plays the app. Prometheus read it late: what it counted before is in the period all the same."""
    return Period(min(time.time() - 600, psutil.Process().create_time() - 60), time.time(), "")


def test_what_was_counted_is_what_prometheus_has(scraped: tuple[Prometheus, RealPrometheus]) -> None:
    prometheus, real = scraped
    found = measured(prometheus, _since_before_its_start())
    assert found.instances == ("app",)
    assert found.read[-1]
    assert not found.read[0]

    def counted(query: str, *labels: str) -> dict[tuple[str, ...], float]:
        samples = real.query(query)
        values = {tuple(each["metric"].get(name, "") for name in labels): float(each["value"][1]) for each in samples}
        return {names: value for names, value in values.items() if value}

    for grown, metric, labels in (
        (found.requests, "serving_requests_total", ("outcome", "status")),
        (found.refusals, "serving_refusals_total", ("code", "reason")),
        (found.key_tokens, "serving_key_tokens_total", ("key", "kind")),
        (found.key_requests, "serving_key_requests_total", ("key",)),
        (found.step_tokens, "serving_engine_step_tokens_total", ("kind",)),
        (found.preemptions, "serving_preemptions_total", ("cause",)),
    ):
        expected = counted(f"sum by ({','.join(labels)}) ({metric})", *labels)
        assert expected, f"{metric}: one of every kind of event counts"
        assert sums(grown) == expected
    for kind in ("prompt", "completion"):
        assert sum(found.tokens[(kind,)]) == counted(f"sum(serving_{kind}_tokens_total)")[()]
    assert found.process[-1]
    assert found.fullest.keys() == found.total.keys() == found.allocated.keys() != set()


def test_quantiles_are_those_of_prometheus(scraped: tuple[Prometheus, RealPrometheus]) -> None:
    prometheus, _ = scraped
    found = measured(prometheus, _since_before_its_start())
    for buckets, metric in (
        (found.first_token, "gen_ai_server_time_to_first_token_seconds_bucket"),
        (found.duration, 'gen_ai_server_request_duration_seconds_bucket{error_type=""}'),
        (found.between_tokens, "serving_time_between_tokens_seconds_bucket"),
    ):
        for share in (0.5, 0.95, 0.99):
            expected = prometheus.value(f"histogram_quantile({share}, sum by (le) ({metric}))")
            assert expected is not None
            assert quantile_of_all(share, buckets) == pytest.approx(expected)


def test_no_prometheus_is_silent() -> None:
    with pytest.raises(Silent, match="Nothing answers"):
        Prometheus(f"http://127.0.0.1:{free_port()}").value("up")


def test_what_is_no_query_is_silent(scraped: tuple[Prometheus, RealPrometheus]) -> None:
    with pytest.raises(Silent, match="answers 400"):
        scraped[0].value("up{")
