"""OpenAI's agents, which speak `/v1/responses`: an agent that calls a tool, a streamed one, and one with a schema."""

import asyncio
import json

from agents import Agent, ModelSettings, Runner, function_tool
from pydantic import BaseModel, Field

MODEL = "smollm2-135m"
asked: list[list[int]] = []


@function_tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    asked.append([a, b])
    return a * b


class Person(BaseModel):
    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=150)


def settings(**more: object) -> ModelSettings:
    return ModelSettings(temperature=0, max_tokens=128, **more)


async def main() -> None:
    reckoner = Agent(
        name="Reckoner",
        instructions="You multiply numbers.",
        model=MODEL,
        tools=[multiply],
        model_settings=settings(tool_choice="required", parallel_tool_calls=False),
    )
    result = await Runner.run(reckoner, "What is 6 times 7?")
    helper = Agent(name="Helper", instructions="You are brief.", model=MODEL, model_settings=settings())
    streamed = Runner.run_streamed(helper, "Count from one to ten.")
    events = [event.data async for event in streamed.stream_events() if event.type == "raw_response_event"]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    again = await Runner.run(helper, [*streamed.to_input_list(), {"role": "user", "content": "Go on."}])
    reader = Agent(name="Reader", model=MODEL, output_type=Person, model_settings=settings())
    read = await Runner.run(reader, "Ada is 36 years old.")
    print(
        json.dumps(
            {
                "asked": asked,
                "items": [item.type for item in result.new_items],
                "final": result.final_output,
                "deltas": len(deltas),
                "streamed": "".join(deltas) == streamed.final_output,
                "again": again.final_output,
                "person": read.final_output.model_dump(),
            }
        )
    )


asyncio.run(main())
