"""Prometheus' configuration, rules and alerts, by promtool; every alert leads to a runbook."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from app.observability.metrics.observer import Metrics
from app.remote.upstream import Upstream
from stack.native import prometheus
from stack.upstream_targets import listed
from tests.support.events import one_of_every_kind
from tests.support.prometheus import CONFIG, MONITORING, tool
from tests.support.recorder import Recorder

RULE_FILES = sorted((CONFIG / "rules").glob("*.yml"))
RUNBOOKS = MONITORING / "runbooks"


def _rules() -> list[dict[str, Any]]:
    groups = [group for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in _rules() if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in _rules() if "record" in rule}
RUNBOOK_URL = re.compile(r"\{\{ \$externalLabels\.runbooks \}\}/([a-z-]+\.md)")


def _rule_tests() -> list[dict[str, Any]]:
    files = sorted((CONFIG / "tests").glob("alerts*.yml"))
    return [test for file in files for test in yaml.safe_load(file.read_text())["tests"]]


def _runbook(name: str) -> Path:
    found = RUNBOOK_URL.fullmatch(ALERTS[name]["annotations"]["runbook_url"])
    assert found is not None, f"{name}: runbook_url begins with this site's address of the runbooks"
    return RUNBOOKS / found[1]


def _seconds(duration: str) -> int:
    units = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([dhms])", duration))


def _metrics(expression: str) -> set[str]:
    """The names of the exported metrics that an expression reads, through recording rules too."""
    found: set[str] = set()

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, promql_parser.VectorSelector) and node.name:
            found.update(_metrics(RECORDED[node.name]["expr"]) if node.name in RECORDED else {node.name})
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def _firing(test: dict[str, Any], name: str) -> list[dict[str, Any]]:
    cases = [case for case in test.get("alert_rule_test", []) if case["alertname"] == name]
    return [case for case in cases if case["exp_alerts"]]


def _promtool(*arguments: str, given: bytes | None = None) -> None:
    done = subprocess.run([tool("promtool"), *arguments], input=given, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_the_configuration_is_valid() -> None:
    _promtool("check", "config", "--lint=all", "--lint-fatal", str(CONFIG / "prometheus.yml"))


def test_the_rules_are_valid() -> None:
    _promtool("check", "rules", "--lint=all", "--lint-fatal", *map(str, RULE_FILES))


def test_the_rules_do_what_their_tests_say() -> None:
    _promtool("test", "rules", *map(str, sorted((CONFIG / "tests").glob("*.yml"))))


def test_the_apps_metrics_follow_prometheus_rules_for_names() -> None:
    metrics = Metrics(CollectorRegistry())
    for event in one_of_every_kind():
        metrics.notify(event)
    _promtool("check", "metrics", given=metrics.render("")[0])


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_means_and_leads_to_its_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "info", "none"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert _runbook(name).read_text().startswith(f"# {name}\n")


def test_no_runbook_is_left_over_and_their_links_lead_somewhere() -> None:
    wanted = {_runbook(name) for name in ALERTS}
    assert set(RUNBOOKS.glob("*.md")) == wanted
    for runbook in wanted:
        for link in re.findall(r"\]\(([^)]+)\)", runbook.read_text()):
            assert (RUNBOOKS / link).is_file(), f"{runbook.name} links to {link}"


def test_the_runbooks_are_where_the_configuration_says() -> None:
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    assert MONITORING.parent / config["global"]["external_labels"]["runbooks"] == RUNBOOKS


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_tested_firing_with_its_words(name: str) -> None:
    fired = [alert for test in _rule_tests() for case in _firing(test, name) for alert in case["exp_alerts"]]
    assert fired
    assert all(set(alert["exp_annotations"]) == set(ALERTS[name]["annotations"]) for alert in fired)


@pytest.mark.parametrize("name", [name for name, rule in ALERTS.items() if "for" in rule])
def test_an_alert_that_waits_is_tested_to_wait(name: str) -> None:
    """A minute at most between the sample that finds it pending and the one that finds it firing."""
    pending = f'count(ALERTS{{alertname="{name}",alertstate="pending"}})'
    gaps = [
        _seconds(case["eval_time"]) - _seconds(query["eval_time"])
        for test in _rule_tests()
        for case in _firing(test, name)
        for query in test.get("promql_expr_test", [])
        if query["expr"] == pending
    ]
    assert any(0 < gap <= 60 for gap in gaps)


@pytest.mark.parametrize("name", [name for name in ALERTS if name != "Watchdog"])
def test_an_alert_is_tested_silent_although_its_metrics_are_there(name: str) -> None:
    (well,) = [test for test in _rule_tests() if test["name"] == "everything is well, under load"]
    assert well["promql_expr_test"] == [
        {"expr": 'ALERTS{alertname!="Watchdog"}', "eval_time": "45m", "exp_samples": []}
    ]
    present = {series["series"].partition("{")[0] for series in well["input_series"]}
    assert _metrics(ALERTS[name]["expr"]) <= present


def test_each_job_finds_its_targets_in_a_file_of_its_own() -> None:
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    files = {job["job_name"]: job["file_sd_configs"][0]["files"] for job in config["scrape_configs"]}
    assert files == {job: [f"targets/{job}.json"] for job in ("app", "nginx", "prometheus", "upstreams")}


def test_a_restart_begins_no_new_series(tmp_path: Path) -> None:
    """The inner ports are others at each start; natively and in containers `instance` is the job's name."""
    for address in ("127.0.0.1:40001", "127.0.0.1:40002"):
        prometheus.write(tmp_path, dict.fromkeys(("app", "nginx", "prometheus"), address))
        for folder in (tmp_path / "targets", MONITORING.parent / "docker/targets"):
            for job in ("app", "nginx", "prometheus"):
                (target,) = json.loads((folder / f"{job}.json").read_text())
                assert target["labels"] == {"instance": job}


@pytest.mark.parametrize(
    ("address", "host", "labels"),
    [
        ("http://a:8000/v1", "a:8000", {"instance": "a:8000", "__scheme__": "http", "__metrics_path__": "/metrics"}),
        (
            "https://me:secret@b/llm/v1/",
            "b",
            {"instance": "b/llm", "__scheme__": "https", "__metrics_path__": "/llm/metrics"},
        ),
    ],
)
def test_the_metrics_of_a_server_are_beside_its_api(address: str, host: str, labels: dict[str, str]) -> None:
    upstream = Upstream(address, None, 1, Recorder().notify)
    assert json.loads(listed([address])) == [{"targets": [host], "labels": labels}]
    assert upstream.name == labels["instance"], "the server's name in the app's own metrics"
