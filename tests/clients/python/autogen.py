"""AutoGen: an agent with a tool, as its documentation begins."""

import asyncio
import json

from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.openai import OpenAIChatCompletionClient

asked = []


async def get_weather(city: str) -> str:
    """Get the weather for a given city."""
    asked.append(city)
    return f"It rains in {city}."


async def main() -> None:
    client = OpenAIChatCompletionClient(
        model="smollm2-135m",
        temperature=0,
        max_tokens=96,
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": True,
            "structured_output": True,
            "family": "unknown",
        },
    )
    helper = AssistantAgent(name="helper", model_client=client, system_message="You are brief.")
    answer = await helper.run(task="Count from one to ten.")
    again = await helper.run(task="Go on.")
    agent = AssistantAgent(name="weather", model_client=client, tools=[get_weather])
    called = await agent.run(task="What is the weather in New York?")
    print(
        json.dumps(
            {
                "answer": answer.messages[-1].content,
                "again": again.messages[-1].content,
                "asked": len(asked),
                "kinds": [message.type for message in called.messages],
            }
        )
    )


asyncio.run(main())
