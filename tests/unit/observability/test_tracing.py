"""What a collector gets of each request."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from app.contract.caller import Caller
from app.contract.requests import Message
from app.contract.telemetry import Event
from app.observability.tracing import TraceObserver, to_collector
from app.settings import Settings
from tests.support.collector import Collector, attributes, collector
from tests.support.events import ANSWERED, BAD_BODY, CANCELLED, REFUSED, REQUEST, broken, one_of_every_kind

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACED = Caller(path="/", trace_id=TRACE, parent_id=PARENT)
STAGES = ["prepare", "grammar", "queue", "prefill", "decode"]


@pytest.fixture
def collecting() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture
def traces(collecting: Collector) -> TraceObserver:
    settings = Settings(otel_exporter_otlp_endpoint=collecting.address, otel_exporter_otlp_headers="x-team=blue")
    observer = to_collector(settings)
    assert observer is not None
    return observer


def spans(traces: TraceObserver, collecting: Collector, event: Event, count: int) -> dict[str, Span]:
    traces.notify(event)
    traces.close()
    found = collecting.spans(count)
    assert collecting.empty
    return found


def test_a_request_is_a_span_and_its_stages_are_its_children(traces: TraceObserver, collecting: Collector) -> None:
    found = spans(traces, collecting, replace(ANSWERED, caller=TRACED), 6)
    request = found.pop("chat smollm2-135m")
    assert request.kind == Span.SPAN_KIND_SERVER
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert request.end_time_unix_nano - request.start_time_unix_nano == 2_250_000_000
    assert sorted(found, key=lambda name: found[name].start_time_unix_nano) == STAGES
    assert {span.parent_span_id for span in found.values()} == {request.span_id}
    moments = [found[stage].start_time_unix_nano for stage in STAGES] + [request.end_time_unix_nano]
    assert [found[stage].end_time_unix_nano for stage in STAGES] == moments[1:], "each begins where one ends"
    assert moments[0] == request.start_time_unix_nano
    assert collecting.headers[0]["x-team"] == "blue"


def test_its_attributes_are_the_conventions(traces: TraceObserver, collecting: Collector) -> None:
    found = spans(traces, collecting, ANSWERED, 6)
    told = attributes(found["chat smollm2-135m"])
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "two-gpu-serving"
    assert told["gen_ai.request.model"] == "smollm2-135m"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (100, 21)
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert told["gen_ai.request.seed"] == 7
    assert told["app.request.id"] == "req-1"
    assert "error.type" not in told


def test_one_that_waited_in_the_queue_and_left_ends_there(traces: TraceObserver, collecting: Collector) -> None:
    found = spans(traces, collecting, CANCELLED, 3)
    assert set(found) == {"chat smollm2-135m", "prepare", "queue"}
    request = found["chat smollm2-135m"]
    assert attributes(request)["error.type"] == "client_closed"
    assert request.status.code == Status.STATUS_CODE_UNSET, "it is no error of the server"


@pytest.mark.parametrize(
    ("event", "name", "code"),
    [(REFUSED, "chat smollm2-135m", "overloaded"), (BAD_BODY, "refused", "invalid_request")],
)
def test_a_refusal_is_a_span(
    traces: TraceObserver, collecting: Collector, event: Event, name: str, code: str
) -> None:
    found = spans(traces, collecting, event, 2)
    assert attributes(found[name])["error.type"] == code


def test_a_failure_is_an_error(traces: TraceObserver, collecting: Collector) -> None:
    found = spans(traces, collecting, broken(), 1)
    assert found["chat smollm2-135m"].status.code == Status.STATUS_CODE_ERROR


def test_a_trace_that_begins_here_has_the_id_of_the_log_line(traces: TraceObserver, collecting: Collector) -> None:
    begun = replace(ANSWERED, caller=Caller(path="/", trace_id=TRACE))
    request = spans(traces, collecting, begun, 6)["chat smollm2-135m"]
    assert (request.trace_id.hex(), request.parent_span_id) == (TRACE, b"")


def test_a_trace_that_its_client_does_not_record_is_not_sent(traces: TraceObserver, collecting: Collector) -> None:
    spans(traces, collecting, replace(ANSWERED, caller=replace(TRACED, sampled=False)), 0)


def test_no_content_leaves_with_a_span(traces: TraceObserver, collecting: Collector) -> None:
    secret = "a marker that is nowhere else"
    asked = replace(REQUEST, messages=(Message("user", secret),), stop=(secret,), user=secret)
    traces.notify(replace(ANSWERED, request=asked, response=secret))
    for event in one_of_every_kind():
        traces.notify(event)
    traces.close()
    assert collecting.bodies
    assert not any(secret.encode() in body for body in collecting.bodies)


def test_a_collector_that_does_not_answer_holds_nothing_up() -> None:
    observer = to_collector(Settings(otel_exporter_otlp_endpoint="http://127.0.0.1:9"))
    assert observer is not None
    observer.notify(ANSWERED)
    observer.close(patience=0.01)


def test_without_a_collector_there_are_no_traces() -> None:
    assert to_collector(Settings()) is None
