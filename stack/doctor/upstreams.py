"""With a remote engine: whether the servers that compute the answers can be reached from here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stack.client import ask
from stack.config import Config
from stack.doctor.finding import Finding, failed, passed, warning

_LATER = "The stack starts, and answers as soon as one of its servers does"


def check_upstreams(config: Config, mode: str) -> Iterator[Finding]:
    """Nothing here ends a start: servers come and go. A container has names of its own for other machines."""
    if config.vllm:
        yield _vllm(mode)
        return
    if mode == "docker" and config.remote:
        yield passed("engine", f"remote, {len(config.engine_urls)} in ENGINE_URL; containers have not asked them yet")
        return
    for url in config.engine_urls:
        answer = ask(f"{url.rstrip('/')}/models", key=config.engine_key)
        address = re.sub("//[^/@]*@", "//", url)  # without what may be a password
        if answer is None:
            yield warning("engine", f"{address} does not answer", _LATER)
        elif answer.status in (401, 403):
            yield warning("engine", f"{address} refuses ENGINE_API_KEY", "Set the key that it wants")
        elif answer.status != 200:
            text = f"{address} lists no models (it answers {answer.status})"
            yield warning("engine", text, "ENGINE_URL is an address below which /models and /chat/completions are")
        else:
            yield passed("engine", f"{address} answers")


def _vllm(mode: str) -> Finding:
    if mode == "docker":
        return passed("engine", "vLLM, in a container beside the app's")
    remedy = "Use Docker, or start vLLM by yourself and name it in ENGINE_URL, with ENGINE=remote"
    return failed("engine", "ENGINE=vllm is a container, and these are plain processes", remedy)
