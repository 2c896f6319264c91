"""The bodies of the answers of `/v1/responses`, whole: what the route writes, and what `/openapi.json` describes."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from app.api.openai.responses import TimingSeconds

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(TypedDict):
    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[Any]


class OutputMessage(TypedDict):
    type: Literal["message"]
    id: str
    status: ItemStatus
    role: Literal["assistant"]
    content: list[OutputText]


class OutputCall(TypedDict):
    type: Literal["function_call"]
    id: str
    status: ItemStatus
    call_id: Annotated[str, Field(description="The id that an output of this call repeats.")]
    name: str
    arguments: Annotated[str, Field(description="JSON text of an object, if the call is complete.")]


OutputItem = OutputMessage | OutputCall


class InputDetails(TypedDict):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(TypedDict):
    reasoning_tokens: int


class ResponseUsage(TypedDict):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Incomplete(TypedDict):
    reason: Literal["max_output_tokens"]


class ResponseFailure(TypedDict):
    code: Annotated[Literal["server_error"], Field(description="OpenAI has a closed list.")]
    message: str
    type: Annotated[str, Field(description="Our code, as in other errors.")]


class ResponseObject(TypedDict):
    """With the values that were used, and null or none where there is nothing."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False]
    error: Annotated[
        ResponseFailure | None, Field(description="What ended the answer, where that was not max_output_tokens.")
    ]
    incomplete_details: Incomplete | None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: None
    prompt_cache_key: str | None
    reasoning: dict[str, None]
    safety_identifier: str | None
    service_tier: Literal["default"]
    store: Annotated[Literal[False], Field(description="Nothing is stored, whatever was asked.")]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, str]
    tools: list[dict[str, Any]]
    top_logprobs: Literal[0]
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None
    timings: NotRequired[TimingSeconds]
