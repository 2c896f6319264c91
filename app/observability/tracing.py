"""The tracing observer: a span for each request, with its stages as children, sent to a collector by OTLP over HTTP.

All of them are made when the request ends, from the same figures as its log line. Attributes are those of
OpenTelemetry's GenAI conventions; none has content of a prompt or an answer.
"""

import threading
import time

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.util.re import parse_env_headers

from app.contract.caller import Caller
from app.contract.requests import GenerationRequest
from app.contract.telemetry import Event, RequestEnded
from app.observability.derived import PROVIDER, stages, succeeded
from app.settings import Settings

Attributes = dict[str, str | bool | int | float | list[str]]


def to_collector(settings: Settings) -> "TraceObserver | None":
    """None where no collector is set."""
    if settings.otel_exporter_otlp_endpoint is None:
        return None
    headers = parse_env_headers(settings.otel_exporter_otlp_headers or "", liberal=True)
    address = f"{settings.otel_exporter_otlp_endpoint.rstrip('/')}/v1/traces"
    return TraceObserver(OTLPSpanExporter(endpoint=address, headers=headers))


class TraceObserver:
    """Sends what ended every few seconds, on a thread of its own, and the rest when it is closed. A collector that
    does not answer costs spans and no request."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._ids = _CallersIds()
        self._provider = TracerProvider(
            resource=Resource.create({SERVICE_NAME: PROVIDER}), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("app")

    def notify(self, event: Event) -> None:
        if isinstance(event, RequestEnded):
            self._trace(event, time.time_ns())

    def close(self, patience: float = 2.0) -> None:
        """Send what is left. A collector that does not answer holds nothing up for longer than that, in seconds."""
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(patience)

    def _trace(self, event: RequestEnded, ended_at: int) -> None:
        """Moments are nanoseconds of the system's clock, lengths those of the monotonic one."""
        begun_at = ended_at - round(event.duration * 1e9)
        request = event.request
        self._ids.caller = event.caller
        span = self._tracer.start_span(
            "refused" if request is None else f"{request.operation} {event.model}",
            context=_parent(event.caller),
            kind=SpanKind.SERVER,
            attributes=_attributes(event),
            start_time=begun_at,
        )
        if event.error is not None and not succeeded(event):
            span.set_attribute("error.type", event.error.code)
            if event.status >= 500:  # by the conventions a client's mistake is no error of the server
                span.set_status(Status(StatusCode.ERROR, event.error.message))
        within, at = set_span_in_context(span), begun_at
        for stage, seconds in stages(event).items():
            child = self._tracer.start_span(stage, context=within, start_time=at)
            at += round(seconds * 1e9)
            child.end(at)
        span.end(ended_at)


class _CallersIds(RandomIdGenerator):
    """A trace that begins here has the id that its log line has."""

    caller: Caller | None = None

    def generate_trace_id(self) -> int:
        given = self.caller.trace_id if self.caller is not None else None
        return super().generate_trace_id() if given is None else int(given, 16)


def _parent(caller: Caller | None) -> Context | None:
    if caller is None or caller.trace_id is None or caller.parent_id is None:
        return None
    flags = TraceFlags(TraceFlags.SAMPLED if caller.sampled else TraceFlags.DEFAULT)
    remote = SpanContext(int(caller.trace_id, 16), int(caller.parent_id, 16), is_remote=True, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(remote))


def _attributes(event: RequestEnded) -> Attributes:
    attributes: Attributes = {"http.response.status_code": event.status, "app.request.id": event.id}
    if event.caller is not None:
        attributes["url.path"] = event.caller.path
    if event.request is not None:
        attributes |= _asked(event.request, event.model or "")
    finished = event.finished
    if finished is not None:
        attributes |= {
            "gen_ai.response.id": event.id,
            "gen_ai.response.finish_reasons": [choice.reason for choice in event.choices] or [finished.reason],
            "gen_ai.usage.input_tokens": finished.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": finished.usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": finished.usage.cached_tokens,
        }
    if event.time_to_first_token is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = event.time_to_first_token
    return attributes


def _asked(request: GenerationRequest, model: str) -> Attributes:
    sampling = request.sampling
    attributes: Attributes = {
        "gen_ai.operation.name": request.operation,
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.request.stream": request.stream,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.seed": sampling.seed,
    }
    if request.max_tokens is not None:
        attributes["gen_ai.request.max_tokens"] = request.max_tokens
    if request.n > 1:
        attributes["gen_ai.request.choice.count"] = request.n
    return attributes
