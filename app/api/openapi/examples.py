"""Requests that work, by operation: shown in the document, and sent by the tests."""

from typing import Any

_QUESTION = {"role": "user", "content": "Write a Python function that adds two numbers."}
_WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string", "maxLength": 40}},
            "required": ["town"],
            "additionalProperties": False,
        },
    },
}
_PERSON: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 40},
                "age": {"type": "integer", "minimum": 0, "maximum": 150},
            },
            "required": ["name", "age"],
            "additionalProperties": False,
        },
    },
}


def examples(model: str) -> dict[str, dict[str, Any]]:
    """Operation id → name → body."""
    chat = {"model": model, "messages": [_QUESTION], "max_tokens": 64}
    message = {"model": model, "max_tokens": 64, "messages": [_QUESTION]}
    function = _WEATHER["function"]
    custom = {
        "name": function["name"],
        "description": function["description"],
        "input_schema": function["parameters"],
    }
    return {
        "classic": {
            "question": {"prompt": _QUESTION["content"], "history": [], "max_length": 64},
            "conversation": {
                "prompt": "And subtracts?",
                "history": [["Write add.", "def add(a, b): return a + b"]],
                "max_length": 64,
                "seed": 1,
            },
            "stream": {"prompt": "Say hello.", "history": [], "max_length": 16, "stream": True},
        },
        "chat": {
            "question": chat,
            "stream": chat | {"stream": True, "stream_options": {"include_usage": True}},
            "structured output": {
                "model": model,
                "messages": [{"role": "user", "content": "Ada is 36 years old."}],
                "response_format": _PERSON,
                "max_tokens": 128,
            },
            "tools": {
                "model": model,
                "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
                "tools": [_WEATHER],
                "tool_choice": "required",
                "max_tokens": 128,
            },
        },
        "response": {
            "question": {"model": model, "input": _QUESTION["content"], "max_output_tokens": 64},
            "stream": {"model": model, "input": [_QUESTION], "max_output_tokens": 64, "stream": True},
            "structured output": {
                "model": model,
                "input": "Ada is 36 years old.",
                "text": {"format": {"type": "json_schema", **_PERSON["json_schema"]}},
                "max_output_tokens": 128,
            },
            "tools": {
                "model": model,
                "input": "What is the weather in Paris?",
                "tools": [{"type": "function", **_WEATHER["function"]}],
                "tool_choice": "required",
                "max_output_tokens": 128,
            },
        },
        "message": {
            "question": message,
            "stream": message | {"stream": True},
            "structured output": {
                "model": model,
                "messages": [{"role": "user", "content": "Ada is 36 years old."}],
                "output_config": {
                    "format": {"type": "json_schema", "schema": _PERSON["json_schema"]["schema"]},
                },
                "max_tokens": 128,
            },
            "tools": {
                "model": model,
                "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
                "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
                "tools": [custom],
                "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
                "max_tokens": 128,
            },
        },
        "count_tokens": {"question": message, "tools": message | {"tools": [custom]}},
        "render": {"question": chat, "tools": chat | {"tools": [_WEATHER]}},
        "completion": {
            "text": {"model": model, "prompt": "def add(a, b):", "max_tokens": 16, "stop": ["\n\n"]},
            "log-probabilities": {"model": model, "prompt": "1, 2, 3,", "max_tokens": 4, "logprobs": 2},
        },
        "fim": {
            "text": {"model": model, "prompt": "def add(a, b):\n", "max_tokens": 16, "random_seed": 1},
            "stream": {"model": model, "prompt": "def add(a, b):\n", "max_tokens": 16, "stream": True},
        },
        "infill": {
            "gap": {
                "input_extra": [{"filename": "main.py", "text": "from sums import add"}],
                "input_prefix": "def add(a, b):\n",
                "input_suffix": "\n",
                "prompt": "    return",
                "n_predict": 16,
            },
            "stream": {"input_prefix": "def add(a, b):\n", "input_suffix": "\n", "n_predict": 16, "stream": True},
        },
        "tokenize": {
            "text": {"model": model, "prompt": "def add(a, b):", "return_token_strs": True},
            "conversation": {"model": model, "messages": [_QUESTION]},
        },
        "detokenize": {"tokens": {"model": model, "tokens": [1604, 803]}},
    }
