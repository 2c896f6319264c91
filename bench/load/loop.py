"""A closed loop: each client asks its next question as soon as it has its answer."""

import asyncio
from collections.abc import Callable, Iterable

import httpx2

from bench.load.ask import Ask
from bench.load.outcome import Outcome

TIMEOUT = 900.0  # seconds of silence; a server that serves one at a time lets the last of 32 clients wait long


async def closed_loop(
    ask: Ask,
    prompts: Iterable[str],
    clients: int,
    answered: Callable[[], object] = lambda: None,
    *,
    apart: float = 0.0,
) -> list[Outcome]:
    """Ask every prompt once, over at most `clients` connections, which begin `apart` seconds after one another.
    `answered` is called after each answer."""
    left = iter(prompts)
    outcomes: list[Outcome] = []

    async def client(http: httpx2.AsyncClient, number: int) -> None:
        await asyncio.sleep(number * apart)
        for prompt in left:
            outcomes.append(await ask(http, prompt))
            answered()

    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    # trust_env: a measured server is never behind the machine's web proxy.
    async with httpx2.AsyncClient(timeout=TIMEOUT, limits=limits, trust_env=False) as http:
        await asyncio.gather(*[client(http, number) for number in range(clients)])
    return outcomes
