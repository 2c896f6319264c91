"""What the fields of request bodies mean, in the words of the document. `Model.field` goes before `field`."""

TEXTS = {
    # POST /
    "ClassicBody.prompt": "The user's turn.",
    "history": "Earlier turns, oldest first: pairs of a question and its answer.",
    "max_length": "The most new tokens, despite its name.",
    "ClassicBody.top_k": "Sample from so many most likely tokens.",
    "ClassicBody.stream": "Answer as server-sent events: deltas, and at the end the whole answer.",
    # both completions
    "model": "The served model's name. None, or an empty one, means the served model; any other is a 404.",
    "max_tokens": (
        "The most new tokens. What does not fit beside the prompt is cut to what does; absent: as many as fit, and "
        "16 for a plain completion."
    ),
    "max_completion_tokens": "The newer name of max_tokens. Both may be there when they say the same.",
    "min_tokens": (
        "No stop token before so many new tokens; a stop string still ends the answer. Not with response_format or "
        "tools."
    ),
    "ignore_eos": "Go on to max_tokens, whatever the model says. Not with response_format or tools.",
    "temperature": "0 takes the most likely token. Absent: the model's own generation config.",
    "top_p": "Sample from the most likely tokens that have so much probability together.",
    "top_k": "Sample from so many most likely tokens; 0 and -1 mean all.",
    "min_p": "Drop tokens that are less likely than this share of the most likely one.",
    "repetition_penalty": "Divides the scores of tokens in prompt and answer; 1 changes nothing.",
    "presence_penalty": "Taken from the score of every token that the answer has.",
    "frequency_penalty": "Taken from the score of a token for each time that the answer has it.",
    "logit_bias": "Token id, as a string, to what is added to its score; 100 and -100 force and forbid.",
    "seed": "The same seed draws the same numbers, and in float32 gives the same answer. Absent: a random one.",
    "n": "So many answers to the prompt, at once.",
    "stop": "The answer ends before any of these, at most 16; a call of a tool does not. Not with response_format.",
    "stream": "Answer as server-sent events: chunks, and `[DONE]` at the end.",
    "stream_options": "With stream only.",
    "include_usage": "A last chunk with usage and timings, and no choices.",
    "continuous_usage_stats": "The usage so far in every chunk.",
    "include_obfuscation": "False only: chunks are not padded.",
    "user": "Logged, else without effect.",
    "metadata": "Logged, else without effect.",
    "safety_identifier": "Without effect.",
    "prompt_cache_key": "Without effect: known prefixes are found without it.",
    "store": "False only: nothing is stored.",
    "service_tier": "Without effect: there is one tier.",
    # chat
    "messages": "The conversation, oldest turn first.",
    "ChatBody.logprobs": (
        "Log-probabilities of the tokens of the answer's text, calls not included: the model's own, before "
        "temperature, penalties, biases and grammars."
    ),
    "top_logprobs": "So many most likely tokens at each place. Needs logprobs.",
    "response_format": "Text, any JSON object, or JSON of a schema. The answer fits, unless max_tokens cuts it.",
    "tools": "Functions that the model may call, with different names.",
    "tool_choice": "Never, as the model likes, at least one, or the named one.",
    "parallel_tool_calls": "False: at most one call in an answer.",
    "modalities": "Text only.",
    "MessageFields.role": "developer is another name of system.",
    "MessageFields.content": "A string or a list of text parts, which a line break joins.",
    "MessageFields.tool_calls": "What the assistant called, in its turn.",
    "tool_call_id": "In a tool's turn: which call of an earlier turn it answers.",
    "MessageFields.name": "In a tool's turn only, where it says the function's name again.",
    "arguments": "JSON text of an object.",
    "parameters": "JSON schema of the function's arguments, an object. Absent: it takes none.",
    "JsonSchemaFields.name": "Without effect: the model is not told the schema.",
    "JsonSchemaFields.description": "Without effect, as the name.",
    "strict": "Without effect: what is generated always fits its schema.",
    "schema": "A JSON schema. An unsupported keyword is a 400 that names it.",
    # plain completions
    "CompletionBody.prompt": (
        "A text, token ids, or a list of either. Control tokens in a text are text. Empty before a suffix only."
    ),
    "suffix": (
        "What follows the hole that the answer fills, for models whose tokenizer has such tokens: others answer 400."
    ),
    "echo": "The prompt stands before each answer. Not with logprobs.",
    "CompletionBody.logprobs": (
        "So many most likely tokens at each place, and the chosen one: the model's own, before temperature, "
        "penalties and biases."
    ),
    "best_of": "May only repeat n.",
    # tokens
    "TextToTokens.prompt": "A raw text. Control tokens in it are text.",
    "add_special_tokens": "Begin with what the model expects before any text, as a plain completion does.",
    "return_token_strs": "Also the ids' names in the vocabulary.",
    "TokensToText.tokens": "Ids of the model's vocabulary.",
}
