"""Many chat clients at once that say no `max_tokens`, as nearly all do: nobody is refused, and all are answered at
the same time."""

import asyncio

import pytest
from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk

from stack.client import prometheus_value
from stack.config import Config
from stack.smoke import await_true
from tests.e2e.conftest import Running

PATIENCE = 120  # seconds
SOME = 8  # pieces of text


@pytest.mark.parametrize("clients", [16, 32])
async def test_clients_without_max_tokens_are_answered_at_the_same_time(stack: Running, clients: int) -> None:
    base = f"{stack.config.address}/v1"
    async with AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client, asyncio.timeout(PATIENCE):
        streams = await asyncio.gather(*[ask(client, number) for number in range(clients)])  # a 429 would raise
        await asyncio.gather(*[read(stream) for stream in streams])
        # All have begun and none has ended, so what comes now comes to all of them at once.
        await asyncio.gather(*[read(stream) for stream in streams])
        await asyncio.to_thread(await_true, lambda: running(stack.config) == clients, f"{clients} running requests")
        await asyncio.gather(*[stream.close() for stream in streams])


async def ask(client: AsyncOpenAI, number: int) -> AsyncStream[ChatCompletionChunk]:
    return await client.chat.completions.create(
        model="smollm2-135m",
        messages=[{"role": "user", "content": f"Tell me a story with {number} animals."}],
        stream=True,
        extra_body={"ignore_eos": True},  # a short story would be over before the last one begins
    )


async def read(stream: AsyncStream[ChatCompletionChunk]) -> None:
    """SOME pieces of text."""
    pieces = 0
    while pieces < SOME:
        chunk = await anext(stream)
        pieces += bool(chunk.choices[0].delta.content)


def running(config: Config) -> float | None:
    return prometheus_value(config, "serving_requests_running")
