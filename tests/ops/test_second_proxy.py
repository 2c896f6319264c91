"""A stream behind a second proxy: a gateway of the site, with nginx' default settings, in front of ours."""

import asyncio
import http.client
import json
from pathlib import Path

from app.contract.telemetry import Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.patience import PATIENCE
from tests.support.proxy import NEEDS_NGINX, running, with_default_settings

pytestmark = NEEDS_NGINX

WORDS = [" one", " two", " three", " four", " five", " six"]


def test_each_token_comes_before_the_next_one_is_made(embedded_model: Path, tmp_path: Path) -> None:
    """The engine waits until the client has read the token before: a proxy that buffers would wait for ever."""
    prompts = Prompts(embedded_model, SCRIPTED_MODEL)
    script = prompts.tokenizer.encode("".join(WORDS), add_special_tokens=False).ids
    assert len(script) == len(WORDS)
    read = {number: asyncio.Event() for number in range(1, len(WORDS) + 1)}
    app = LiveServer(create_app(Settings(), ControlledEngine(script, gates=read), prompts, Observers()))
    try:
        with (
            running(tmp_path / "ours", app.port) as ours,
            with_default_settings(tmp_path / "other", ours.port) as port,
        ):
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            body = json.dumps({"messages": [{"role": "user", "content": "Count."}], "stream": True})
            client.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            response = client.getresponse()
            for number, word in enumerate(WORDS, start=1):
                came = b""
                while json.dumps(word).encode() not in came:
                    piece = response.read1()
                    assert piece
                    came += piece
                app.call(read[number].set)
            assert response.read().endswith(b"data: [DONE]\n\n")
            client.close()
    finally:
        app.close()
