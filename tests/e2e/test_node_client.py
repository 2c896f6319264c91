"""The official `openai` client for Node, through nginx, with the real model."""

import json
import os
import subprocess
from pathlib import Path

from stack.smoke import await_true, find_line
from tests.e2e.conftest import Running
from tests.support.node import NODE

HERE = Path(__file__).parent / "node"


def test_the_node_client_gets_what_it_asks_for(stack: Running) -> None:
    done = subprocess.run(
        [NODE, HERE / "client.mjs"],
        check=False,
        env=os.environ | {"BASE_URL": f"{stack.config.address}/v1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["model"] == seen["retrieved"] == "smollm2-135m"
    assert "return a + b" in seen["whole"]
    assert seen["streamed"] == seen["whole"]
    assert seen["finish"] == "tool_calls"
    (call,) = seen["calls"]
    assert call["function"]["name"] == "get_weather"
    assert set(json.loads(call["function"]["arguments"])) == {"town"}
    assert set(seen["structured"]) == {"name", "age"}
    assert " 5" in seen["text"]
    assert (seen["bad"]["kind"], seen["bad"]["param"]) == ("BadRequestError", "temperature")
    assert (seen["missing"]["kind"], seen["missing"]["code"]) == ("NotFoundError", "model_not_found")
    line = await_true(lambda: find_line(stack.stack, "app", "request", seen["requestID"]), "the app's log line")
    assert line["response"] == seen["whole"]
    line = await_true(lambda: find_line(stack.stack, "app", "request", seen["left"]), "the line of who left")
    assert line["finish_reason"] == "cancelled"
