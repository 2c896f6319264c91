"""Addresses that are nearly right: a slash too many is taken away, and a 404 says which one was meant."""

import json

import pytest

from tests.ops.test_nginx import KNOWN
from tests.support.proxy import NEEDS_NGINX, Proxy, Upstream

pytestmark = NEEDS_NGINX


@pytest.mark.parametrize(("method", "path"), [known for known in KNOWN if known[1] != "/" and "?" not in known[1]])
def test_every_address_may_end_in_a_slash(proxy: Proxy, upstream: Upstream, method: str, path: str) -> None:
    status, _, _ = proxy.ask(method, f"{path}/?a=b", b"{}" if method == "POST" else None)
    assert status == 200
    assert upstream.seen.get_nowait()[0] == f"{method} {path}?a=b"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("//v1//chat/completions", "/v1/chat/completions"),
        ("/v1//chat///completions?a=//", "/v1/chat/completions?a=//"),
        ("/v1//chat/completions//", "/v1/chat/completions"),
    ],
)
def test_two_slashes_are_one(proxy: Proxy, upstream: Upstream, path: str, meant: str) -> None:
    assert proxy.ask("POST", path, b"{}")[0] == 200
    assert upstream.seen.get_nowait()[0] == f"POST {meant}"


def said(proxy: Proxy, path: str) -> str:
    status, headers, body = proxy.ask("POST", path, b"{}")
    assert status == 404
    assert headers["Content-Type"] == "application/json"
    message = json.loads(body)["error"]["message"]
    assert isinstance(message, str)
    return message


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1/chat/completions?key=secret", "/v1/chat/completions"),
        ("/V1/chat/completions/", "/v1/chat/completions"),
        ("/openai/deployments/gpt-4/chat/completions?api-version=1", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/v1/v1/completions", "/v1/completions"),
        ("/fim/completions", "/v1/fim/completions"),
        ("/responses", "/v1/responses"),
        ("/messages", "/v1/messages"),
        ("/v1/v1/messages?beta=true", "/v1/messages"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/models", "/v1/models"),
        ("/v1/v1/models/smollm2-135m", "/v1/models"),
        ("/v1/infill", "/infill"),
        ("/v1/tokenize", "/tokenize"),
        ("/v1/detokenize", "/detokenize"),
        ("/v1/health", "/health"),
        ("/ping", "/health"),
    ],
)
def test_a_404_says_which_address_was_meant(proxy: Proxy, upstream: Upstream, path: str, meant: str) -> None:
    assert said(proxy, path) == f"This path does not exist. Did you mean {meant}?"
    assert upstream.seen.empty()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/api/chat", "does not speak Ollama's own API"),
        ("/api/generate", "does not speak Ollama's own API"),
        ("/api/tags", "base URL that ends in /v1"),
        ("/api/embeddings", "does not speak Ollama's own API"),
        ("/v1/embeddings", "has no embeddings"),
        ("/embeddings", "has no embeddings"),
        ("/v1/images/generations", "does not have this part of OpenAI's API"),
        ("/v1/audio/speech", "does not have this part of OpenAI's API"),
        ("/v1", "This is a base URL"),
        ("/v1/", "This is a base URL"),
    ],
)
def test_a_404_says_what_is_not_here(proxy: Proxy, upstream: Upstream, path: str, words: str) -> None:
    assert words in said(proxy, path)
    assert upstream.seen.empty()


@pytest.mark.parametrize("path", ["/nothing", "/metrics", "/v1/models-of-others", "/apis/chat"])
def test_any_other_path_is_not_guessed_at(proxy: Proxy, path: str) -> None:
    assert said(proxy, path) == "This path does not exist."
