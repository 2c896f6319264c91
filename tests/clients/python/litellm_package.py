"""LiteLLM, with a provider before the model's name: chat completions and responses."""

import json
import os

import litellm

litellm.suppress_debug_info = True  # it prints hints beside the JSON when a request is refused
MODEL = "openai/smollm2-135m"
QUESTION = [{"role": "user", "content": "Count from one to ten."}]
PARAMETERS = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 30}},
    "required": ["town"],
}

shared = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": "none", "temperature": 0}
whole = litellm.completion(model=MODEL, messages=QUESTION, max_tokens=48, **shared)
chunks = litellm.completion(model=MODEL, messages=QUESTION, max_tokens=48, stream=True, **shared)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
called = litellm.completion(
    model=MODEL,
    messages=[{"role": "user", "content": "What is the weather in Paris?"}],
    tools=[{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}],
    tool_choice="required",
    parallel_tool_calls=False,
    max_tokens=128,
    **shared,
)
try:
    litellm.completion(model=MODEL, messages=[{"role": "user", "content": "word " * 20_000}], **shared)
except litellm.ContextWindowExceededError:
    too_long = True
else:
    too_long = False
response = litellm.responses(model=MODEL, input="Count from one to ten.", max_output_tokens=48, **shared)
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "streamed": streamed,
            "call": json.loads(called.choices[0].message.tool_calls[0].function.arguments),
            "too_long": too_long,
            "response": response.output[0].content[0].text,
        }
    )
)
