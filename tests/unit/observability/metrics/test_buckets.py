"""Histograms reach as far as the settings allow, and hold the bounds of OpenTelemetry's conventions."""

import json
from itertools import pairwise
from pathlib import Path

import annotated_types
import pytest

from app.observability.metrics import buckets
from app.settings import MOST_LOCAL_SEQUENCES, Settings

CONFIGS = Path(buckets.__file__).parents[2] / "models/configs"

# open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md
CONVENTIONS = {
    "DURATION_BUCKETS": (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    "FIRST_TOKEN_BUCKETS": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    ),
    "PER_TOKEN_BUCKETS": (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    "TOKEN_BUCKETS": (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576),
}


def _buckets(name: str) -> tuple[float, ...]:
    found: tuple[float, ...] = getattr(buckets, name)
    return found


def _default(setting: str) -> float:
    return float(Settings.model_fields[setting].default)


def _limit(setting: str) -> float:
    (limit,) = [each.le for each in Settings.model_fields[setting].metadata if isinstance(each, annotated_types.Le)]
    assert isinstance(limit, int | float)
    return float(limit)


def _longest_context() -> int:
    """Of the models that the catalogue names."""
    configs = [json.loads(path.read_text()) for path in CONFIGS.glob("*.json")]
    return max(int(config["max_position_embeddings"]) for config in configs)


REACH = [
    ("DURATION_BUCKETS", "request_timeout"),
    ("FIRST_TOKEN_BUCKETS", "request_timeout"),
    ("FIRST_TOKEN_BUCKETS", "max_wait"),
    ("PER_TOKEN_BUCKETS", "stall_deadline"),
    ("STEP_BUCKETS", "stall_deadline"),
]


@pytest.mark.parametrize(("name", "setting"), REACH)
def test_a_duration_ends_where_its_setting_does(name: str, setting: str) -> None:
    assert _buckets(name)[-1] >= _limit(setting)


@pytest.mark.parametrize(("name", "setting"), REACH)
def test_up_to_the_default_a_quantile_is_known_to_a_factor_of_five(name: str, setting: str) -> None:
    reached = [bound for bound in _buckets(name) if bound < _default(setting)]
    after = _buckets(name)[len(reached)]
    assert all(high <= 5 * low for low, high in pairwise([*reached, after]))


def test_tokens_reach_the_longest_context_and_tell_its_quarters_apart() -> None:
    longest = _longest_context()
    assert longest == 163_840
    assert buckets.TOKEN_BUCKETS[-1] >= longest
    quarters = [sum(bound <= longest * part / 4 for bound in buckets.TOKEN_BUCKETS) for part in (1, 2, 3, 4)]
    assert len(set(quarters)) == 4


def test_sequences_reach_the_most_that_may_run_at_once() -> None:
    assert buckets.SEQUENCE_BUCKETS[-1] >= MOST_LOCAL_SEQUENCES


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_conventions_bounds_are_inside(name: str) -> None:
    assert set(CONVENTIONS[name]) <= set(_buckets(name))


@pytest.mark.parametrize("name", [name for name in vars(buckets) if name.endswith("_BUCKETS")])
def test_bounds_rise(name: str) -> None:
    assert all(low < high for low, high in pairwise(_buckets(name)))
