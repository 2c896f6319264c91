"""Anthropic's package, as its README begins: a message, a stream, a count of tokens, and a tool with its result."""

import json

import anthropic

client = anthropic.Anthropic()
MODEL = "smollm2-135m"
GREEDY = {"temperature": 0}  # the package no longer has the field; the server does
QUESTION = [{"role": "user", "content": "What is the weather in Paris?"}]
COUNT = [{"role": "user", "content": "Count from one to five."}]
WEATHER = {
    "name": "get_weather",
    "description": "The weather of a town.",
    "input_schema": {
        "type": "object",
        "properties": {"town": {"type": "string", "maxLength": 30}},
        "required": ["town"],
        "additionalProperties": False,
    },
}

message = client.messages.create(model=MODEL, max_tokens=32, extra_body=GREEDY, messages=COUNT, system="Be brief.")
with client.messages.stream(
    model=MODEL, max_tokens=32, extra_body=GREEDY, messages=COUNT, system="Be brief."
) as stream:
    pieces = list(stream.text_stream)
counted = client.messages.count_tokens(model=MODEL, messages=COUNT, system="Be brief.")
called = client.messages.create(
    model=MODEL, max_tokens=128, extra_body=GREEDY, messages=QUESTION, tools=[WEATHER], tool_choice={"type": "any"}
)
(use,) = called.content
answered = [
    *QUESTION,
    {"role": "assistant", "content": called.content},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "It rains."}]},
]
after = client.messages.create(model=MODEL, max_tokens=32, extra_body=GREEDY, messages=answered, tools=[WEATHER])
try:
    client.messages.create(model="no-such-model", max_tokens=8, messages=COUNT)
    refused = ""
except anthropic.NotFoundError as error:
    refused = error.body["error"]["type"]

print(
    json.dumps(
        {
            "whole": message.content[0].text,
            "streamed": "".join(pieces),
            "counted": counted.input_tokens,
            "used": message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0),
            "call": [use.name, use.input],
            "stop": called.stop_reason,
            "after": after.stop_reason,
            "refused": refused,
        }
    )
)
