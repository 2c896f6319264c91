"""The report's page: one file, without scripts, that asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from stack.report import sections, units
from stack.report.elements import Markup, element, joined, stylesheet
from stack.report.logged import Logged
from stack.report.measured import Measured
from stack.report.period import Period


@dataclass(frozen=True)
class Report:
    """`silence` says why there is nothing of Prometheus, where `measured` is None."""

    period: Period
    model: str | None  # None: none was ready to answer
    measured: Measured | None
    silence: str
    logged: Logged


def page(report: Report) -> str:
    css = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'"
    title = f"{report.model or 'Report'}, {units.date(report.period.begin)} to {units.date(report.period.end)} UTC"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        stylesheet(css),
    )
    body = element("body", _header(report), element("main", *_sections(report)), _footer(report))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(report: Report) -> Markup:
    period, found = report.period, report.measured
    instances = ", ".join(found.instances) if found is not None and found.instances else "unknown"
    notes = [element("p", note, class_="note", role="note") for note in _notes(report)]
    return element(
        "header",
        element("h1", f"Report: {report.model or 'no model is ready'}"),
        element(
            "p",
            f"{units.date(period.begin)} to {units.date(period.end)} UTC: {units.lasting(period.seconds)}, "
            f"{period.why}. Instance: {instances}.",
        ),
        *notes,
    )


def _notes(report: Report) -> list[str]:
    found, logged = report.measured, report.logged
    if found is None:
        return [f"Prometheus is missing: {report.silence}. What follows is from the app's log alone."]
    notes = []
    if not any(found.read):
        notes.append("Prometheus answers, and has no samples of the app in this period.")
    elif not all(found.read):
        missing = sum(not read for read in found.read) * report.period.width
        notes.append(
            f"Prometheus has no samples of {units.lasting(missing)} of this period, grey in the charts. What counters"
            " grew meanwhile is where the samples go on."
        )
    counted = round(sum(sum(bins) for bins in found.requests.values()))
    if counted != len(logged.requests):
        notes.append(
            f"Prometheus counted {units.count(counted)} requests, the log has {units.count(len(logged.requests))}. "
            "Requests that ended within seconds of the period's borders are in one of the two; more than those are "
            "lines that were lost or are kept no longer, or samples that are missing."
        )
    return notes


def _sections(report: Report) -> list[Markup]:
    period, found, logged = report.period, report.measured, report.logged
    parts = [sections.tiles(found, logged)]
    if found is not None:
        parts += [sections.traffic(found, period)]
    parts += [sections.times(found, logged, period), sections.tenants(found, logged)]
    if found is not None:
        parts += [sections.memory(found, period)]
    return [*parts, sections.problems(found, logged, period), sections.slowest(logged)]


def _footer(report: Report) -> Markup:
    oldest = report.logged.oldest
    reach = "The log is empty." if oldest is None else f"The log reaches back to {units.date(oldest)} UTC."
    return element(
        "footer",
        joined(
            "Charts and counts are of Prometheus, which reads the app every 5 s; requests, exact quantiles and"
            f" reasons are of the app's log. {reach} Nothing here is a prompt or an answer. One request as a whole: ",
            element("code", 'make requests DO="show ID"'),
            ".",
        ),
    )
