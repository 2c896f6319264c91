"""The events of a stream of `/v1/messages`, with Anthropic's names and fields."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from app.api.anthropic.errors import AnthropicError
from app.api.anthropic.objects import AnswerMessage, ContentBlock, Ended, MessageUsage, StopReason


class MessageStart(TypedDict):
    type: Literal["message_start"]
    message: AnswerMessage


class BlockStart(TypedDict):
    type: Literal["content_block_start"]
    index: int
    content_block: ContentBlock


class NewText(TypedDict):
    type: Literal["text_delta"]
    text: str


class NewInput(TypedDict):
    type: Literal["input_json_delta"]
    partial_json: str


class BlockDelta(TypedDict):
    type: Literal["content_block_delta"]
    index: int
    delta: NewText | NewInput


class BlockStop(TypedDict):
    type: Literal["content_block_stop"]
    index: int


class Stop(TypedDict):
    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(TypedDict):
    type: Literal["message_delta"]
    delta: Stop
    usage: MessageUsage
    error: NotRequired[Ended]


class MessageStop(TypedDict):
    type: Literal["message_stop"]


class Ping(TypedDict):
    type: Literal["ping"]


BlockEvent = BlockStart | BlockDelta | BlockStop
MessageEvent = MessageStart | BlockEvent | MessageDelta | MessageStop | Ping | AnthropicError
EVENTS = (MessageStart, BlockStart, BlockDelta, BlockStop, MessageDelta, MessageStop, Ping, AnthropicError)
