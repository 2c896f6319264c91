"""Each event is found again in the exposition."""

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from app.contract.caller import Caller
from app.contract.errors import DeadlineExceeded, every_error
from app.contract.events import Finished, FinishReason, Timings, Usage
from app.contract.telemetry import (
    AttentionChosen,
    Configured,
    Event,
    FirstToken,
    KeysRead,
    KvTokens,
    LoopLagged,
    MemoryRead,
    PhaseChanged,
    PhaseProgress,
    StepDone,
    TokenGap,
)
from app.contract.version import VERSION
from app.observability.metrics.observer import Metrics
from app.settings import SettingsError
from tests.support.events import (
    ANSWERED,
    ANSWERED_ELSEWHERE,
    BAD_BODY,
    CANCELLED,
    CLEANED_UP,
    ENDED,
    GPU,
    LOAD,
    REFUSED,
    REQUEST,
    SEVERAL,
    broken,
    one_of_every_kind,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
LIBRARIES = ("torch", "transformers")
SERVED = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "two-gpu-serving",
    "gen_ai_request_model": "smollm2-135m",
}

CALLER = Caller(path="/", trace_id="4bf92f3577b34da6a3ce929d0e0e4736")
FIRST_TOKEN = FirstToken(REQUEST, CALLER, "smollm2-135m", 0.25)
STAGES = ("prepare", "grammar", "queue", "prefill", "decode")


class Exposed:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)

    def after(self, *events: Event) -> "Exposed":
        for event in events:
            self.metrics.notify(event)
        return self

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def exposed() -> Exposed:
    return Exposed()


def test_a_success_is_in_every_latency_histogram(exposed: Exposed) -> None:
    exposed.after(FIRST_TOKEN, ANSWERED)
    assert exposed.value("gen_ai_server_request_duration_seconds_sum", **SERVED, error_type="") == 2.25
    assert exposed.value("gen_ai_server_time_to_first_token_seconds_sum", **SERVED) == 0.25
    assert exposed.value("gen_ai_server_time_per_output_token_seconds_sum", **SERVED) == pytest.approx(2.0 / 20)
    assert exposed.value("serving_request_output_tokens_per_second_sum") == pytest.approx(21 / 2.25)
    assert exposed.value("serving_requests_total", outcome="stop", status="200") == 1


def test_every_end_has_its_stages_and_their_sum_is_its_duration(exposed: Exposed) -> None:
    for event, outcome in ((ANSWERED, "answered"), (CANCELLED, "cancelled"), (REFUSED, "refused")):
        exposed.after(event)
        name = "serving_request_stage_seconds_sum"
        sums = [exposed.value(name, stage=stage, outcome=outcome) for stage in STAGES]
        assert sum(each or 0 for each in sums) == event.duration
    name = "serving_request_stage_seconds_count"
    assert exposed.value(name, stage="queue", outcome="cancelled") == 1
    assert exposed.value(name, stage="prefill", outcome="cancelled") is None, "it left in the queue"


def test_the_time_in_each_server_is_of_answers_that_it_began(exposed: Exposed) -> None:
    server = "192.0.2.9:8000"
    cut = replace(CANCELLED, upstream=server)
    exposed.after(ANSWERED, ANSWERED_ELSEWHERE, cut)
    assert exposed.value("serving_upstream_first_token_seconds_sum", upstream=server) == 0.5
    assert exposed.value("serving_upstream_first_token_seconds_count", upstream=server) == 1


def test_a_first_token_is_seen_when_it_comes_and_each_gap(exposed: Exposed) -> None:
    exposed.after(FIRST_TOKEN, TokenGap(0.004), TokenGap(0.3))
    assert exposed.value("gen_ai_server_time_to_first_token_seconds_sum", **SERVED) == 0.25
    assert exposed.value("serving_time_between_tokens_seconds_bucket", le="0.005") == 1
    assert exposed.value("serving_time_between_tokens_seconds_count") == 2


def test_refusals_say_what_was_lacking(exposed: Exposed) -> None:
    assert exposed.value("serving_refusals_total", code="invalid_request", reason="") == 0
    exposed.after(REFUSED, BAD_BODY)
    assert exposed.value("serving_refusals_total", code="overloaded", reason="wait") == 1
    assert exposed.value("serving_refusals_total", code="invalid_request", reason="") == 1


def test_the_tokens_of_every_answer_are_counted(exposed: Exposed) -> None:
    exposed.after(ANSWERED, CANCELLED, broken())
    assert exposed.value("serving_prompt_tokens_total") == 300
    assert exposed.value("serving_cached_prompt_tokens_total") == 64
    assert exposed.value("serving_completion_tokens_total") == 33
    assert exposed.value("serving_wasted_completion_tokens_total", cause="cancelled") == 9
    assert exposed.value("serving_wasted_completion_tokens_total", cause="error") == 3


@pytest.mark.parametrize(
    ("event", "outcome", "status", "error_type"),
    [(CANCELLED, "cancelled", "499", "client_closed"), (broken(), "error", "500", "generation_failed")],
)
def test_a_failure_is_counted_by_its_error_and_leaves_the_latencies_of_successes_alone(
    exposed: Exposed, event: Event, outcome: str, status: str, error_type: str
) -> None:
    exposed.after(event)
    assert exposed.value("serving_requests_total", outcome=outcome, status=status) == 1
    duration = exposed.value("gen_ai_server_request_duration_seconds_count", **SERVED, error_type=error_type)
    assert duration == 1
    assert exposed.value("gen_ai_server_time_per_output_token_seconds_count", **SERVED) is None
    assert exposed.value("serving_request_output_tokens_per_second_count") == 0


def test_refusals_are_counted_whether_or_not_they_became_a_request(exposed: Exposed) -> None:
    exposed.after(REFUSED, BAD_BODY)
    assert exposed.value("serving_requests_total", outcome="refused", status="429") == 1
    assert exposed.value("serving_requests_total", outcome="refused", status="400") == 1
    assert exposed.value("serving_completion_tokens_total") == 0


def test_a_one_token_answer_has_no_time_per_output_token(exposed: Exposed) -> None:
    exposed.after(replace(ANSWERED, finished=Finished(FinishReason.LENGTH, Usage(5, 1), Timings())))
    assert exposed.value("gen_ai_server_time_per_output_token_seconds_count", **SERVED) is None
    assert exposed.value("serving_request_output_tokens_per_second_count") == 1


def test_several_choices_are_one_request_without_a_time_per_token(exposed: Exposed) -> None:
    exposed.after(SEVERAL)
    assert exposed.value("serving_requests_total", outcome="stop", status="200") == 1
    assert exposed.value("gen_ai_server_time_per_output_token_seconds_count", **SERVED) is None


def test_a_tool_call_is_a_success(exposed: Exposed) -> None:
    exposed.after(replace(ANSWERED, finished=Finished(FinishReason.TOOL_CALLS, Usage(100, 21), Timings())))
    assert exposed.value("serving_requests_total", outcome="tool_calls", status="200") == 1
    assert exposed.value("serving_request_output_tokens_per_second_count") == 1
    assert exposed.value("serving_wasted_completion_tokens_total", cause="error") == 0


def test_every_outcome_starts_at_zero_so_that_its_first_increase_is_seen(exposed: Exposed) -> None:
    for error in every_error():
        assert exposed.value("serving_requests_total", outcome="refused", status=str(error.status)) == 0
    assert exposed.value("serving_requests_total", outcome="error", status="500") == 0
    assert exposed.value("serving_requests_total", outcome="tool_calls", status="200") == 0
    assert exposed.value("serving_wasted_completion_tokens_total", cause="cancelled") == 0


def test_the_load_is_what_the_engine_said_last(exposed: Exposed) -> None:
    exposed.after(replace(LOAD, running=9, waits_for="place", evicted_pages=4), LOAD)
    assert exposed.value("serving_requests_running") == 3
    assert exposed.value("serving_requests_waiting", reason="memory") == 2
    assert exposed.value("serving_requests_waiting", reason="place") == 0
    assert exposed.value("serving_kv_cache_used_tokens") == 1024
    assert exposed.value("serving_kv_cache_capacity_tokens") == 4096
    assert exposed.value("serving_kv_cache_utilization_ratio") == 0.25
    states = {"running": 960, "shared": 64, "cached": 2048, "free": 1024}
    assert states == {state: exposed.value("serving_kv_cache_tokens", state=state) for state in states}
    assert exposed.value("serving_kv_cache_evicted_pages_total") == 7
    assert exposed.value("serving_preemptions_total", cause="growth") == 1
    assert exposed.value("serving_preemptions_total", cause="page_share") == 0


def test_a_load_before_the_capacity_is_known_divides_by_nothing(exposed: Exposed) -> None:
    exposed.after(replace(LOAD, kv=KvTokens(running=0, shared=0, cached=0, free=0)))
    assert exposed.value("serving_kv_cache_utilization_ratio") == 0


def test_one_phase_at_a_time_and_the_start_up_time_when_it_is_ready(exposed: Exposed) -> None:
    assert exposed.value("serving_engine_phase", phase="starting") == 1
    exposed.after(PhaseChanged("loading", "", 1.0), PhaseChanged("ready", "", 3.5))
    assert exposed.value("serving_engine_phase", phase="ready") == 1
    assert exposed.value("serving_engine_phase", phase="loading") == 0
    assert exposed.value("serving_engine_startup_seconds") == 3.5
    assert exposed.value("serving_engine_phase_seconds", phase="starting") == 1.0
    assert exposed.value("serving_engine_phase_seconds", phase="loading") == 2.5
    assert exposed.value("serving_engine_phase_seconds", phase="ready") is None


def test_steps_by_kind(exposed: Exposed) -> None:
    exposed.after(
        StepDone(1, 512, 0, 0.5), StepDone(32, 0, 32, 0.05), StepDone(16, 0, 16, 0.04), StepDone(5, 100, 4, 0.2)
    )
    assert exposed.value("serving_engine_step_tokens_total", kind="prefill") == 612
    assert exposed.value("serving_engine_step_tokens_total", kind="decode") == 52, "also those beside a prompt"
    assert exposed.value("serving_engine_step_sequences_sum", kind="mixed") == 5
    assert exposed.value("serving_engine_step_sequences_sum", kind="decode") == 48
    assert exposed.value("serving_engine_step_duration_seconds_sum", kind="decode") == pytest.approx(0.09)


def test_each_key_has_its_requests_and_tokens(exposed: Exposed) -> None:
    asked = replace(REQUEST, tenant="blue")
    exposed.after(replace(ANSWERED, request=asked), replace(REFUSED, request=asked), CANCELLED, BAD_BODY)
    assert exposed.value("serving_key_requests_total", key="blue", outcome="answered") == 1
    assert exposed.value("serving_key_requests_total", key="blue", outcome="refused") == 1
    assert exposed.value("serving_key_tokens_total", key="blue", kind="prompt") == 100
    assert exposed.value("serving_key_tokens_total", key="blue", kind="completion") == 21
    assert exposed.value("serving_key_tokens_total", key="anonymous", kind="completion") == 9


def test_how_much_of_max_tokens_answers_use(exposed: Exposed) -> None:
    exposed.after(ANSWERED, replace(ANSWERED, request=replace(REQUEST, max_tokens=None)), CANCELLED)
    assert exposed.value("serving_request_max_tokens_used_ratio_count") == 1
    assert exposed.value("serving_request_max_tokens_used_ratio_sum") == 21 / 512


def test_a_late_event_loop_is_seen(exposed: Exposed) -> None:
    exposed.after(LoopLagged(0.3))
    assert exposed.value("serving_event_loop_lag_seconds_bucket", le="0.25") == 0
    assert exposed.value("serving_event_loop_lag_seconds_bucket", le="0.5") == 1


def test_each_devices_memory_is_set_after_each_cleanup(exposed: Exposed) -> None:
    exposed.after(CLEANED_UP)
    for device in ("cuda:0", "cuda:1"):
        found = {
            what: exposed.value(f"serving_device_memory_{what}_bytes", device=device)
            for what in ("allocated", "reserved", "free", "total", "peak")
        }
        gib = 1 << 30
        assert found == {
            "allocated": 15 * gib,
            "reserved": 16 * gib,
            "free": 8 * gib,
            "total": 24 * gib,
            "peak": 17 * gib,
        }
        assert exposed.value("serving_device_memory_before_cleanup_bytes", device=device) == 18 * gib
        assert exposed.value("serving_device_memory_after_cleanup_bytes", device=device) == 16 * gib
        assert exposed.value("serving_device_memory_freed_bytes_total", device=device) == 2 * gib
    assert exposed.value("serving_cleanup_duration_seconds_count") == 1


def test_memory_is_also_read_between_cleanups(exposed: Exposed) -> None:
    exposed.after(CLEANED_UP, MemoryRead((replace(GPU, allocated=12 << 30),)))
    assert exposed.value("serving_device_memory_allocated_bytes", device="cuda:0") == 12 << 30
    assert exposed.value("serving_cleanup_duration_seconds_count") == 1


def test_pytorchs_running_totals_become_counters_also_after_a_reset(exposed: Exposed) -> None:
    for retries in (2, 2, 5, 1):
        exposed.after(MemoryRead((replace(GPU, alloc_retries=retries),)))
    assert exposed.value("serving_device_memory_alloc_retries_total", device="cuda:0") == 2 + 0 + 3 + 1
    assert exposed.value("serving_device_memory_out_of_memory_total", device="cuda:0") == 1


def _exemplars(exposition: str, family: str) -> Iterator[dict[str, str]]:
    for metric in parse_openmetrics(exposition):  # type: ignore[no-untyped-call]  # the library's parser has no types
        if metric.name == family:
            yield from (sample.exemplar.labels for sample in metric.samples if sample.exemplar is not None)


@pytest.mark.parametrize(
    "family",
    [
        "gen_ai_server_request_duration_seconds",
        "gen_ai_server_time_to_first_token_seconds",
        "gen_ai_server_time_per_output_token_seconds",
    ],
)
def test_openmetrics_leads_from_a_bucket_to_a_request_id(exposed: Exposed, family: str) -> None:
    body, content_type = exposed.after(FIRST_TOKEN, replace(ANSWERED, caller=CALLER)).metrics.render(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    assert list(_exemplars(body.decode(), family)) == [{"request_id": "req-1", "trace_id": CALLER.trace_id}]


def test_an_overlong_request_id_is_no_exemplar_and_breaks_nothing(exposed: Exposed) -> None:
    exposed.after(replace(ANSWERED, id="x" * 500))
    assert exposed.value("gen_ai_server_time_per_output_token_seconds_count", **SERVED) == 1


def test_plain_text_for_everybody_else_without_created_series(exposed: Exposed) -> None:
    body, content_type = exposed.after(*one_of_every_kind()).metrics.render("*/*")
    assert content_type.startswith("text/plain")
    assert b"# {" not in body
    assert b"_created" not in body


def test_the_process_and_the_libraries_are_exported(exposed: Exposed) -> None:
    body = exposed.metrics.render("")[0].decode()
    assert "process_resident_memory_bytes " in body
    assert exposed.value("serving_build_info", stack=VERSION, **{name: version(name) for name in LIBRARIES}) == 1


def test_an_answer_that_was_cut_is_a_success_and_is_counted(exposed: Exposed) -> None:
    cut = replace(ANSWERED, error=DeadlineExceeded(), finished=replace(ENDED, reason=FinishReason.LENGTH))
    assert exposed.value("serving_answers_cut_total", code="deadline_exceeded") == 0
    exposed.after(cut)
    assert exposed.value("serving_answers_cut_total", code="deadline_exceeded") == 1
    assert exposed.value("gen_ai_server_request_duration_seconds_count", **SERVED, error_type="") == 1


def test_a_phase_lasts_as_long_as_all_its_parts(exposed: Exposed) -> None:
    steps = [("loading", 0.5), ("warming", 2.0), ("warming", 5.0), ("warming", 9.0), ("ready", 10.0)]
    exposed.after(*(PhaseChanged(phase, "a part", elapsed) for phase, elapsed in steps))
    assert exposed.value("serving_engine_phase_seconds", phase="loading") == 1.5
    assert exposed.value("serving_engine_phase_seconds", phase="warming") == 8


def test_a_key_whose_request_was_refused_early_is_counted_with_it(exposed: Exposed) -> None:
    exposed.after(KeysRead(outdated=False, names=("anna", "blue")))
    assert exposed.value("serving_key_requests_total", key="blue", outcome="refused") == 0
    exposed.after(BAD_BODY)
    assert exposed.value("serving_key_requests_total", key="anna", outcome="refused") == 1


def test_a_first_refusal_is_seen_as_an_increase(exposed: Exposed) -> None:
    for error in every_error():
        for reason in ("", *error.reasons):
            assert exposed.value("serving_refusals_total", code=error.code, reason=reason) == 0


def test_how_far_the_start_is_can_be_watched(exposed: Exposed) -> None:
    name = "serving_engine_phase_progress_ratio"
    assert exposed.after(PhaseChanged("loading", "weights", 0.5)).value(name) == 0
    assert exposed.after(PhaseProgress(0.25)).value(name) == 0.25
    assert exposed.after(PhaseChanged("warming", "first steps", 1.5)).value(name) == 0
    assert exposed.after(PhaseChanged("ready", "serving", 2.5)).value(name) == 1


def test_what_the_engine_runs_with_is_known_once_it_is_ready(exposed: Exposed) -> None:
    exposed.after(
        Configured(
            model="deepseek-coder-v2-lite",
            source="deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct at e434a23f",
            dtype="bfloat16",
            context_tokens=163_840,
            sequences=64,
            gpus=("NVIDIA A10", "NVIDIA A10"),
            driver="580.95",
        )
    )
    told = {"dtype": "bfloat16", "gpus": "NVIDIA A10, NVIDIA A10", "driver": "580.95", "sequences": "64"}
    more = {"model": "deepseek-coder-v2-lite", "context_tokens": "163840"}
    source = "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct at e434a23f"
    assert exposed.value("serving_configuration_info", **told, **more, source=source) == 1


def test_which_attention_runs_is_known_once_the_model_is_ready(exposed: Exposed) -> None:
    exposed.after(AttentionChosen(prefill="flash-attn 2.8.3", decode="absorbed"))
    assert exposed.value("serving_attention_info", prefill="flash-attn 2.8.3", decode="absorbed") == 1


def test_no_label_holds_what_a_client_wrote(exposed: Exposed) -> None:
    body = exposed.after(*one_of_every_kind()).metrics.render("")[0].decode()
    for text in ("second question", "second answer", "req-1", "192.0.2.7"):
        assert text not in body


def test_prometheus_multiprocess_mode_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    with pytest.raises(SettingsError, match="PROMETHEUS_MULTIPROC_DIR"):
        Metrics(CollectorRegistry())


def test_keys_are_outdated_until_their_file_is_read_again(exposed: Exposed) -> None:
    assert exposed.value("serving_api_keys_outdated") == 0
    assert exposed.after(KeysRead(outdated=True)).value("serving_api_keys_outdated") == 1
    assert exposed.after(KeysRead(outdated=False)).value("serving_api_keys_outdated") == 0
