"""Dashboards are well formed, name only what is exported, and show data from a real Prometheus."""

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from app.observability.log.log_output import LogOutput, LogOutputCollector
from app.observability.metrics.gpu_watch import GpuWatch
from app.observability.metrics.observer import Metrics
from tests.support.events import one_of_every_kind
from tests.support.nvml import Nvml
from tests.support.patience import PATIENCE
from tests.support.prometheus import (
    CONFIG,
    MONITORING,
    Prometheus,
    free_port,
    running,
    running_prometheus,
    tool,
    wait_for,
)

GRAFANA = MONITORING / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
ADDED_BY_PROMETHEUS = {"job", "instance", "alertname", "alertstate", "le"}
# Names of other programs' metrics; the test with a real Prometheus and nginx exporter below proves them.
FOREIGN = {
    *("up", "ALERTS", "nginx_up", "nginx_http_requests_total"),
    *("prometheus_rule_evaluation_failures_total", "prometheus_config_last_reload_successful"),
    *(f"nginx_connections_{state}" for state in ("accepted", "active", "handled", "reading", "waiting", "writing")),
}
VLLM = [
    line.split() for line in (Path(__file__).parent / "vllm_metrics.txt").read_text().splitlines() if line[0] != "#"
]
"""What a real vLLM exports: name, type, labels."""
STUB_STATUS = "Active connections: 2 \nserver accepts handled requests\n 9 9 27 \nReading: 0 Writing: 1 Waiting: 1 \n"


def _dashboard(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _panels(path: Path) -> list[dict[str, Any]]:
    """Panels that show something: rows only order them."""
    return [panel for panel in _dashboard(path)["panels"] if panel["type"] != "row"]


def _panel_expressions() -> dict[str, str]:
    return {
        f"{path.stem}: {panel['title']} {target['refId']}": target["expr"]
        for path in DASHBOARDS
        for panel in _panels(path)
        for target in panel["targets"]
    }


def _rules() -> list[dict[str, Any]]:
    groups = [
        group for file in (CONFIG / "rules").glob("*.yml") for group in yaml.safe_load(file.read_text())["groups"]
    ]
    return [rule for group in groups for rule in group["rules"]]


def _annotation_expressions() -> dict[str, str]:
    return {
        f"{path.stem}: annotation {each['name']}": each["expr"]
        for path in DASHBOARDS
        for each in _dashboard(path)["annotations"]["list"]
    }


PANELS = _panel_expressions()
EXPRESSIONS = (
    PANELS | _annotation_expressions() | {rule.get("alert", rule.get("record")): rule["expr"] for rule in _rules()}
)


def _filled(expression: str, interval: str) -> str:
    """With Grafana's variables replaced: "All" is all values of the variable, which are of apps alone."""
    for name, value in {"$__rate_interval": interval, "$job": "app", "$instance": "app"}.items():
        expression = expression.replace(name, value)
    assert "$" not in expression
    return expression


def _selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Raises ValueError if it is no expression."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(_filled(expression, "1m")), visit)
    return found


def _panels_of(kind: str) -> list[Any]:
    return [
        pytest.param(panel, id=f"{path.stem}: {panel['title']}")
        for path in DASHBOARDS
        for panel in _panels(path)
        if panel["type"] == kind
    ]


class _Vllm:
    """What vLLM exports: its families with made-up figures, which have grown at each look."""

    def __init__(self) -> None:
        self._looks = 0

    def render(self, _accept: str) -> tuple[bytes, str]:
        self._looks += 1
        lines = [line for name, kind, labels in VLLM for line in self._family(name, kind, labels.split(","))]
        others = ["serving_requests_running 5", "process_start_time_seconds 7"]  # as another of these stacks has them
        return "\n".join([*lines, *others, ""]).encode(), "text/plain; version=0.0.4"

    def _family(self, name: str, kind: str, labels: list[str]) -> Iterator[str]:
        yield f"# TYPE {name} {kind}"
        here = ",".join(f'{label}="0"' for label in labels if label != "le")
        if kind != "histogram":
            yield f"{name}{{{here}}} {self._looks}"
            return
        for bound in ("0.1", "1.0", "+Inf"):
            yield f'{name}_bucket{{{here},le="{bound}"}} {self._looks}'
        yield f"{name}_sum{{{here}}} {self._looks}"
        yield f"{name}_count{{{here}}} {self._looks}"


def _observed() -> Metrics:
    """What the app exports, as app/main.py puts it together."""
    registry = CollectorRegistry()
    registry.register(LogOutputCollector(LogOutput(io.StringIO(), Path())))
    watched = Nvml()
    assert GpuWatch(registry, watched).start()
    assert watched.waits.acquire(timeout=PATIENCE), "the first figures"
    return Metrics(registry)


@pytest.fixture(scope="module")
def exported() -> dict[str, list[dict[str, str]]]:
    """What the app exports when everything has happened once: each name's label sets."""
    metrics = _observed()
    for event in one_of_every_kind():
        metrics.notify(event)
    found: dict[str, list[dict[str, str]]] = {}
    for exposition in (metrics.render("")[0].decode(), _Vllm().render("")[0].decode()):
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.parametrize("source", EXPRESSIONS)
def test_an_expression_names_only_metrics_and_labels_that_exist(
    source: str, exported: dict[str, list[dict[str, str]]]
) -> None:
    recorded = {rule["record"] for rule in _rules() if "record" in rule}
    selectors = _selectors(EXPRESSIONS[source])
    assert selectors or source == "Watchdog"
    for selector in selectors:
        assert selector.name in exported or selector.name in recorded | FOREIGN, f"{selector.name} is not exported"
        series = exported.get(selector.name or "", [])
        for matcher in selector.matchers.matchers if series else []:
            if matcher.name in ADDED_BY_PROMETHEUS:
                continue
            assert any(matcher.name in labels for labels in series), f"{selector.name} has no label {matcher.name}"
            if matcher.op == promql_parser.MatchOp.Equal:
                values = {labels.get(matcher.name) for labels in series}
                assert matcher.value in values, f"{selector.name}: {matcher.name} is never {matcher.value!r}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_well_formed(path: Path) -> None:
    dashboard = _dashboard(path)
    assert dashboard["uid"] == path.stem
    assert dashboard["title"]
    assert dashboard["description"]
    assert dashboard["editable"] is False
    variable, *others = dashboard["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert variable["current"]["value"] in {source["uid"] for source in sources}
    assert [(each["name"], each["query"]["query"], each["current"]["value"]) for each in others] == [
        ("job", "label_values(serving_engine_phase, job)", "$__all"),
        ("instance", 'label_values(serving_engine_phase{job=~"$job"}, instance)', "$__all"),
    ]
    assert not any("allValue" in each for each in others), "it would match Prometheus' own process_ metrics too"
    assert [each["name"] for each in dashboard["annotations"]["list"]] == ["Restarts", "Alerts"]
    (link,) = dashboard["links"]
    assert (link["tags"], link["keepTime"], link["includeVars"]) == (dashboard["tags"], True, True)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "panel",
    [pytest.param(panel, id=f"{path.stem}: {panel['title']}") for path in DASHBOARDS for panel in _panels(path)],
)
def test_a_panel_says_what_it_shows_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    unit = panel["options"]["yAxis"] if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]
    assert unit["unit"]
    for target in panel["targets"]:
        assert target["legendFormat"]
        ranges = re.findall(r"\[([^\]]+)\]", target["expr"])
        if not target.get("instant"):
            assert set(ranges) <= {"$__rate_interval"}, "a fixed range shows nothing when it is shorter than a pixel"


@pytest.mark.parametrize("panel", _panels_of("stat"))
def test_a_single_figure_is_of_now_or_says_that_there_is_none(panel: dict[str, Any]) -> None:
    """A range query's last value may be of a quarter of an hour ago."""
    assert all((target["instant"], target["range"]) == (True, False) for target in panel["targets"])
    assert all("$__rate_interval" not in target["expr"] for target in panel["targets"])
    defaults = panel["fieldConfig"]["defaults"]
    (nothing,) = [each["options"] for each in defaults["mappings"] if each["type"] == "special"]
    assert (nothing["match"], nothing["result"]["text"]) == ("null+nan", defaults["noValue"])
    traffic = (
        any("rate(" in target["expr"] for target in panel["targets"]) and "cpu" not in panel["targets"][0]["expr"]
    )
    assert defaults["noValue"] == "no traffic" or not traffic


@pytest.mark.parametrize("panel", _panels_of("stat"))
def test_a_single_figure_of_an_app_without_traffic_is_none(panel: dict[str, Any], idle: Prometheus) -> None:
    """0 / 0 and quantiles of nothing are NaN, and a rate of nothing is empty: both are said in words."""
    if panel["fieldConfig"]["defaults"]["noValue"] == "no traffic":
        assert not _has_data(idle.query(_filled(panel["targets"][0]["expr"], "1m")))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_the_panels_of_the_app_follow_the_variables(path: Path) -> None:
    """A dashboard of one instance must not show another's figures."""
    for panel in _panels(path):
        for target in panel["targets"]:
            for selector in _selectors(target["expr"]):
                name = selector.name or ""
                if name.startswith(("serving_", "gen_ai_", "process_", "python_")):
                    assert {"job", "instance"} <= {each.name for each in selector.matchers.matchers}, panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in _dashboard(path)["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            assert x < 24, f"{panel['title']} is wider than the page"
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                assert other == panel["title"], f"{panel['title']} overlaps {other}"


def test_grafana_is_provisioned_from_the_repository_alone() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert (source["uid"], source["url"], source["editable"]) == ("prometheus", "${PROMETHEUS_URL}", False)
    scrape = yaml.safe_load((CONFIG / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/serving.yml").read_text())["providers"]
    assert provider["allowUiUpdates"] is False


def test_grafana_opens_on_our_dashboard() -> None:
    grafana = yaml.safe_load((MONITORING.parent / "compose.yaml").read_text())["services"]["grafana"]
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    mounts = dict(volume.split(":")[1::-1] for volume in grafana["volumes"])  # the path in the container → here
    assert MONITORING.parent / mounts[str(home.parent)] / home.name in DASHBOARDS


@contextmanager
def _page(pages: dict[str, Any]) -> Iterator[str]:
    """A web server on loopback; a page is a text, or a function of the Accept header."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages[self.path]
            body, kind = (
                page(self.headers["Accept"]) if callable(page) else (page.encode(), "text/plain; version=0.0.4")
            )
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
            """Not on the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has scraped an app that nobody has asked anything, three times at least."""
    folder = tmp_path_factory.mktemp("idle")
    with ExitStack() as stack:
        app = stack.enter_context(_page({"/metrics": _observed().render}))
        prometheus = stack.enter_context(running_prometheus(folder, {"app": app}, interval="250ms"))
        end = time.monotonic() + PATIENCE
        while not prometheus.query('count_over_time(up{job="app"}[1m]) >= 3'):
            assert time.monotonic() < end
            time.sleep(0.1)  # Prometheus tells nobody when it has scraped
        yield prometheus


def test_every_panel_shows_data_from_a_prometheus_that_scraped_the_app(tmp_path: Path) -> None:
    metrics = _observed()
    with ExitStack() as stack:
        app = stack.enter_context(_page({"/metrics": metrics.render}))
        status = stack.enter_context(_page({"/status": STUB_STATUS}))
        nginx = f"127.0.0.1:{free_port()}"
        exporter = [tool("prometheus-nginx-exporter"), f"--nginx.scrape-uri=http://{status}/status"]
        stack.enter_context(running([*exporter, f"--web.listen-address={nginx}"], tmp_path / "exporter.log"))
        wait_for(f"http://{nginx}/metrics", tmp_path / "exporter.log")
        vllm = stack.enter_context(_page({"/metrics": _Vllm().render}))
        targets = {"app": app, "nginx": nginx, "upstreams": vllm}
        prometheus = stack.enter_context(running_prometheus(tmp_path, targets, interval="250ms"))

        pending = {source: _filled(text, "5s") for source, text in PANELS.items()}
        end = time.monotonic() + 60
        while pending and time.monotonic() < end:
            for event in one_of_every_kind():
                metrics.notify(event)
            time.sleep(0.25)  # one scrape: Prometheus tells nobody when it has scraped
            for source in [source for source, text in pending.items() if _has_data(prometheus.query(text))]:
                del pending[source]
        assert not pending, f"no data for {sorted(pending)}; targets: {prometheus.targets()}"
        assert {name for name in FOREIGN if not prometheus.query(name)} == set()
        assert prometheus.targets() == dict.fromkeys(["app", "nginx", "prometheus", "upstreams"], "up")
        others = prometheus.query('{job="upstreams",__name__!~"vllm:.*|up|scrape_.*"}')
        assert not others, "another stack's figures would mix into the panels of this one"


def _has_data(samples: list[dict[str, Any]]) -> bool:
    return any(sample["value"][1] != "NaN" for sample in samples)
