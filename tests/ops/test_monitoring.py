"""Prometheus' configuration, rules and alerts, by promtool; every alert leads to a runbook."""

import re
import subprocess
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from app.observability.metrics import Metrics
from tests.support.events import one_of_every_kind
from tests.support.prometheus import CONFIG, MONITORING, tool

RULE_FILES = sorted((CONFIG / "rules").glob("*.yml"))
RUNBOOKS = MONITORING / "runbooks"


def _rules() -> list[dict[str, Any]]:
    groups = [group for file in RULE_FILES for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in _rules() if "alert" in rule}


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
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    runbook = MONITORING.parent / rule["annotations"]["runbook"]
    assert runbook.read_text().startswith(f"# {name}\n")


def test_no_runbook_is_left_over_and_their_links_lead_somewhere() -> None:
    wanted = {MONITORING.parent / rule["annotations"]["runbook"] for rule in ALERTS.values()}
    assert set(RUNBOOKS.glob("*.md")) == wanted
    for runbook in wanted:
        for link in re.findall(r"\]\(([^)]+)\)", runbook.read_text()):
            assert (RUNBOOKS / link).is_file(), f"{runbook.name} links to {link}"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_rule_test(name: str) -> None:
    tests = (CONFIG / "tests/alerts.yml").read_text()
    assert re.search(rf'alertname[=:] ?"?{name}\b', tests), f"no rule test makes {name} fire"


def test_each_job_finds_its_targets_in_a_file_of_its_own() -> None:
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    files = {job["job_name"]: job["file_sd_configs"][0]["files"] for job in config["scrape_configs"]}
    assert files == {job: [f"targets/{job}.json"] for job in ("app", "nginx", "prometheus")}
