"""OpenAI's package, as its README begins: chat and responses, whole, streamed, with a tool and with a schema."""

import json

from openai import OpenAI
from pydantic import BaseModel, Field

client = OpenAI()
MODEL = "smollm2-135m"
ADD = "Write a Python function named add that returns the sum of two numbers."


class Person(BaseModel):
    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=150)


PARAMETERS = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 30}},
    "required": ["town"],
    "additionalProperties": False,
}
QUESTION = "What is the weather in Paris?"

chat = client.chat.completions.create(
    model=MODEL, messages=[{"role": "user", "content": ADD}], temperature=0, max_tokens=48
)
response = client.responses.create(model=MODEL, input=ADD, temperature=0, max_output_tokens=48)
with client.responses.stream(model=MODEL, input=ADD, temperature=0, max_output_tokens=48) as stream:
    deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
parsed = client.responses.parse(
    model=MODEL, input="Ada is 36 years old.", text_format=Person, temperature=0, max_output_tokens=128
)
weather = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
conversation = [{"role": "user", "content": QUESTION}]
called = client.responses.create(
    model=MODEL,
    input=conversation,
    tools=[weather],
    tool_choice="required",
    parallel_tool_calls=False,
    temperature=0,
    max_output_tokens=128,
)
(call,) = called.output
conversation += called.output
conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "It rains."})
after = client.responses.create(
    model=MODEL, input=conversation, tools=[weather], max_output_tokens=32, tool_choice="none"
)

print(
    json.dumps(
        {
            "chat": chat.choices[0].message.content,
            "response": response.output_text,
            "streamed": "".join(deltas),
            "person": parsed.output_parsed.model_dump(),
            "call": [call.name, json.loads(call.arguments)],
            "after": after.output_text,
            "tokens": response.usage.output_tokens,
        }
    )
)
