"""LangChain's ChatOpenAI over `/v1/responses`; tests/e2e/test_langchain.py has it over chat completions."""

import json

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


class Person(BaseModel):
    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=150)


chat = ChatOpenAI(model="smollm2-135m", temperature=0, max_completion_tokens=64, use_responses_api=True)
answer = chat.invoke("Count from one to ten.")
pieces = [piece.text for piece in chat.stream("Count from one to ten.")]
call = chat.bind_tools([multiply], tool_choice="required", parallel_tool_calls=False).invoke("What is 6 times 7?")
person = chat.with_structured_output(Person, method="json_schema").invoke("Ada is 36 years old.")
print(
    json.dumps(
        {
            "answer": answer.text,
            "tokens": answer.usage_metadata["output_tokens"],
            "pieces": len(pieces),
            "streamed": "".join(pieces),
            "calls": [[each["name"], each["args"]] for each in call.tool_calls],
            "person": person.model_dump(),
        }
    )
)
