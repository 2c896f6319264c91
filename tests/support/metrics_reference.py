"""Writes docs/metrics.md from the families that the app declares and the rules that Prometheus records.

`python -m tests.support.metrics_reference` prints it; `make reference` writes it.
"""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from app.observability.log.log_output import LogOutput, LogOutputCollector
from app.observability.metrics.gpu_watch import GpuFamilies
from app.observability.metrics.observer import Metrics
from stack.config import ROOT

DOCUMENT = ROOT / "docs" / "metrics.md"
_RULES = ROOT / "monitoring" / "prometheus" / "rules"
_STANDARD = (ProcessCollector, PlatformCollector, GCCollector)
_WIDTH = 120

_HEAD = """\
# Metrics

`GET /metrics` of the app, which nginx does not forward; Prometheus reads it every few seconds. This file is written
by `make reference` from what the app declares, and a test compares. [Decision 0502](decisions/0502-metric-names.md)
has the reasons for the names, [operations](operations.md) says how to get from them to a request. Histograms have the
series `…_bucket`, `…_sum` and `…_count`. `process_…` and `python_…` are those of every program that uses Prometheus'
Python client. With OpenMetrics asked for, the latency histograms carry exemplars with `request_id` and `trace_id`.
"""


def registry() -> CollectorRegistry:
    """With every family that the app may export, on any machine."""
    made = CollectorRegistry()
    Metrics(made)
    GpuFamilies(made)
    made.register(LogOutputCollector(LogOutput(sys.stdout, Path.cwd())))
    return made


def document() -> str:
    parts = [_HEAD]
    for title, chosen in (
        ("OpenTelemetry's GenAI conventions", lambda name: name.startswith("gen_ai_")),
        ("GPUs, as their driver sees them", lambda name: name.startswith("serving_gpu_")),
        ("The stack's own", lambda name: not name.startswith(("gen_ai_", "serving_gpu_"))),
    ):
        entries = "\n".join(entry for name, entry in sorted(_families()) if chosen(name))
        parts.append(f"## {title}\n{entries}\n")
    recorded = "\n".join(f"- `{name}`" for name in sorted(_recorded()))
    parts.append(f"## Recorded by Prometheus\nFrom the above, in `monitoring/prometheus/rules`.\n\n{recorded}\n")
    return "\n".join(parts)


def _families() -> Iterator[tuple[str, str]]:
    """The name of each family as queries write it, and its entry."""
    for collector in registry()._collector_to_names:  # no public call lists the collectors
        if isinstance(collector, _STANDARD):
            continue
        for family in collector.collect():
            name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
            labels = _labels(collector, family)
            kind = f"{family.type}, by {', '.join(f'`{label}`' for label in labels)}" if labels else family.type
            yield name, _wrapped(f"- `{name}` ({kind}): {family.documentation}")


def _wrapped(entry: str) -> str:
    return textwrap.fill(entry, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _labels(collector: Collector, family: object) -> tuple[str, ...]:
    declares = collector if isinstance(collector, MetricWrapperBase) else family
    return tuple(getattr(declares, "_labelnames", ()))


def _recorded() -> Iterator[str]:
    for file in _RULES.glob("*.yml"):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            yield from (rule["record"] for rule in group["rules"] if "record" in rule)


if __name__ == "__main__":
    sys.stdout.write(document())
