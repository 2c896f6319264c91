"""The log observer: one line for each request, and one for each phase of the engine."""

import dataclasses
import logging
import re
from typing import Any

import structlog

from app.contract.engine import Phase
from app.contract.errors import InvalidRequest, ServingError, UnsupportedField
from app.contract.options import CONTENT_OF_KEY, LogContent
from app.contract.requests import GenerationRequest, SamplingParams
from app.contract.telemetry import CleanedUp, Event, PhaseChanged, RequestEnded
from app.observability.derived import output_tokens_per_second
from app.observability.log.content import ContentFields
from app.settings import Settings

_DIGITS = 6  # microseconds
_ALWAYS = frozenset({"seed", "temperature", "top_p", "top_k", "repetition_penalty"})


class LogObserver:
    """Writes on the caller's thread; docs/decisions/0501 has the reasons."""

    def __init__(self, settings: Settings) -> None:
        self._content = ContentFields(settings)
        self._requests = structlog.stdlib.get_logger("app.request")
        self._engine = structlog.stdlib.get_logger("app.engine")

    def notify(self, event: Event) -> None:
        match event:
            case RequestEnded(request=None):
                self._requests.info("request", **self._refusal(event))
            case RequestEnded(request=GenerationRequest() as request):
                self._requests.log(_level(event), "request", **self._line(event, request))
            case CleanedUp():
                self._engine.info("cleaned up", duration_s=_round(event.duration), devices=_devices(event))
            case PhaseChanged():
                level = logging.ERROR if event.phase == Phase.FAILED else logging.INFO
                self._engine.log(
                    level, "phase", phase=event.phase, detail=event.detail, elapsed_s=_round(event.elapsed)
                )

    def _line(self, event: RequestEnded, request: GenerationRequest) -> dict[str, Any]:
        line: dict[str, Any] = {
            "request_id": request.id,
            "tenant": request.tenant,
            **_caller(event),
            "operation": request.operation,
            "model": event.model,
            "stream": request.stream,
            "status": event.status,
            "duration_s": _round(event.duration),
        }
        line |= (
            self._error(event, request.terms.log_content)
            | _outcome(event)
            | _parameters(request)
            | _labels(request)
            | self._content.of(event, request)
        )
        if event.choices:
            line["choices"] = self._choices(event)
        return line

    def _refusal(self, event: RequestEnded) -> dict[str, Any]:
        return {
            "request_id": event.id,
            "tenant": event.tenant,
            **_caller(event),
            "status": event.status,
            "duration_s": _round(event.duration),
        } | self._error(event, structlog.contextvars.get_contextvars().get(CONTENT_OF_KEY))

    def _error(self, event: RequestEnded, of_key: LogContent | None) -> dict[str, Any]:
        """Why a request was refused or failed, or its answer ended early; empty for all others.

        A message about a body may name what a client wrote there: fields that nobody knows, properties of a schema.
        """
        error = event.error
        if error is None:
            return {}
        told: dict[str, Any] = {"error_code": error.code, "error_message": error.message}
        if error.param is not None:
            told["error_field"] = error.param
        if isinstance(error, InvalidRequest) and not self._content.shows_text(of_key):
            told["error_message"] = f"[{len(error.message)} characters]"
            told |= {"error_field": _known(error)} if error.param is not None else {}
        if error.reason:
            told["error_reason"] = error.reason
        if error.__cause__ is not None:  # what the client does not get
            told["exc_info"] = error
        return told

    def _choices(self, event: RequestEnded) -> list[dict[str, Any]]:
        return [
            {"seed": choice.request.sampling.seed, "finish_reason": choice.reason, **content}
            for choice, content in zip(event.choices, self._content.choices(event), strict=True)
        ]


def _outcome(event: RequestEnded) -> dict[str, Any]:
    """The figures of the engine; empty for a request that did not reach it."""
    finished = event.finished
    if finished is None:
        return {"prepare_s": _round(event.duration)}
    outcome: dict[str, Any] = {
        "finish_reason": finished.reason,
        "prompt_tokens": finished.usage.prompt_tokens,
        "completion_tokens": finished.usage.completion_tokens,
        "cached_tokens": finished.usage.cached_tokens,
        "time_to_first_token_s": _round(event.time_to_first_token),
        **{f"{stage}_s": _round(seconds) for stage, seconds in dataclasses.asdict(finished.timings).items()},
        "largest_gap_s": _round(event.largest_gap),
        "output_tokens_per_second": _round(output_tokens_per_second(event)),
        "mean_batch": None if event.mean_batch is None else round(event.mean_batch, 1),
        "preemptions": event.preemptions,
        "first_step": event.first_step,
        "last_step": event.last_step,
        "most_tokens": event.max_tokens,
    }
    if event.upstream is None:
        del outcome["upstream_s"]
    else:
        outcome["upstream"] = event.upstream
    return outcome


def _known(error: ServingError) -> str:
    """Of a field's place the part that is a name of the API."""
    if isinstance(error, UnsupportedField):
        return "[not a field]"
    return re.split(r"[.\[]", error.param or "", maxsplit=1)[0]


def _parameters(request: GenerationRequest) -> dict[str, Any]:
    """The parameters for repeating the answer, without those that have no effect."""
    sampling = {
        field.name: getattr(request.sampling, field.name)
        for field in dataclasses.fields(SamplingParams)
        if field.name not in {"left_out", *request.sampling.left_out}
        and (field.name in _ALWAYS or getattr(request.sampling, field.name) != _default(field))
    }
    if request.ignore_eos:
        sampling["ignore_eos"] = True
    if request.n > 1:
        sampling["n"] = request.n
    return {"max_tokens": request.max_tokens, **sampling} | _structure(request)


def _structure(request: GenerationRequest) -> dict[str, Any]:
    """What else shaped the prompt and the answer, without schemas, which may be long."""
    structure: dict[str, Any] = {}
    if request.suffix is not None:
        structure["suffix"] = True
    if request.prompt_logprobs is not None:
        structure["echo"] = True
    if request.response_format is not None:
        structure["response_format"] = "json_object" if request.response_format.schema is None else "json_schema"
    if request.tools:
        structure["tools"] = [tool.name for tool in request.tools]
        structure["tool_choice"] = request.tool_choice.name or request.tool_choice.mode
    return structure


def _labels(request: GenerationRequest) -> dict[str, Any]:
    """The labels that the client gave its request for the log."""
    labels = {"user": request.user, "metadata": dict(request.metadata)}
    return {name: value for name, value in labels.items() if value}


def _default(field: dataclasses.Field[Any]) -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _caller(event: RequestEnded) -> dict[str, Any]:
    caller = event.caller
    if caller is None:
        return {}
    told = {
        "path": caller.path,
        "client": caller.address,
        "user_agent": caller.user_agent,
        "client_request_id": caller.request_id,
        "trace_id": caller.trace_id,
    }
    return {name: value for name, value in told.items() if value is not None}


def _level(event: RequestEnded) -> int:
    """Error for failures, warning for requests that were refused by a full or unready server, else info."""
    if event.status >= 500:
        return logging.ERROR if event.finished is not None else logging.WARNING
    return logging.WARNING if event.status == 429 else logging.INFO


def _devices(event: CleanedUp) -> list[dict[str, Any]]:
    """Bytes of each after the cleanup, and what was reserved before."""
    freed = event.freed()
    return [
        dataclasses.asdict(after) | {"reserved_before": before.reserved, "freed": freed[after.device]}
        for before, after in zip(event.before, event.devices, strict=True)
    ]


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, _DIGITS)
