"""What coding agents send is taken, and answered to its end.

`agents/` has requests of released versions without a terminal. Headers, fields, roles, items and schemas are theirs;
some of the tools are left out, and every text is written anew. Codex is set to have no search of the web and no tools
in namespaces, which are refused. Claude Code first tries a tool that is loaded later, is refused, and sends this.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.support.recorder import Recorder

_FILES = sorted(Path(__file__).with_name("agents").glob("*.json"))
REQUESTS = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in _FILES}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered(client: TestClient, recorder: Recorder, name: str) -> None:
    sent: dict[str, Any] = REQUESTS[name]
    body = sent["body"] | {"model": "scripted"}
    response = client.post(sent["path"], json=body, headers=sent["headers"])
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith(
        "text/event-stream" if body.get("stream") else "application/json"
    )
    ended = recorder.request()
    assert (ended.status, ended.error) == (200, None)
    assert ended.request is not None
    assert len(ended.request.tools) == len(body.get("tools", []))


def test_each_kind_of_api_has_an_agent() -> None:
    paths = {sent["path"].partition("?")[0] for sent in REQUESTS.values()}
    assert paths == {"/v1/chat/completions", "/v1/messages", "/v1/responses"}
