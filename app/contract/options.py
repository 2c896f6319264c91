"""Choices of an operator that more than the settings know: the engine, the plan of a model and API keys have them
too."""

from enum import StrEnum


class Cleanup(StrEnum):
    """When unused memory is given back: to the driver of GPUs, or, with that of free KV pages, to the system."""

    IDLE = "idle"
    REQUEST = "request"
    OFF = "off"


class DType(StrEnum):
    """The type that a model is computed in."""

    AUTO = "auto"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class Compile(StrEnum):
    """What torch.compile is used for."""

    OFF = "off"
    LAYERS = "layers"


class FlashAttn(StrEnum):
    """Whether the library flash-attn is used."""

    AUTO = "auto"
    BUILD = "build"
    OFF = "off"


class LogContent(StrEnum):
    """What the log has of prompts and answers, from the most to the least."""

    FULL = "full"
    MASKED = "masked"
    HASH = "hash"
    REDACTED = "redacted"
    OFF = "off"


CONTENT_OF_KEY = "log_content"
"""In the log's context: what the request's API key allows, where its file says so."""


def least_content(*modes: LogContent | None) -> LogContent:
    """Of those that are given the one that shows the least."""
    order = list(LogContent)
    return max((mode for mode in modes if mode is not None), key=order.index, default=LogContent.FULL)
