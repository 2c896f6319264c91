"""llama-index over a server that is like OpenAI's: a completion, a chat, and a stream."""

import json
import os

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

model = OpenAILike(
    model="smollm2-135m",
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key="none",
    is_chat_model=True,
    context_window=8192,
    max_tokens=48,
    temperature=0,
)
messages = [
    ChatMessage(role="system", content="You are brief."),
    ChatMessage(role="user", content="Count from one to ten."),
]
chat = model.chat(messages)
pieces = [piece.delta for piece in model.stream_chat(messages)]
print(
    json.dumps(
        {
            "completion": model.complete("Count from one to ten.").text,
            "chat": chat.message.content,
            "streamed": "".join(piece or "" for piece in pieces),
            "pieces": len(pieces),
        }
    )
)
