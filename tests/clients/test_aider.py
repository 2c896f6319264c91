"""aider works on a repository through the stack: it is answered. What the small model says is of no use to it."""

import json
import sys
from typing import Any

import pytest

from stack.smoke import await_true
from tests.clients.conftest import RunProgram
from tests.e2e.conftest import Running

pytestmark = [pytest.mark.long, pytest.mark.model]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="aider has no release for this Python")
def test_a_change_in_a_repository(run_program: RunProgram, stack: Running) -> None:
    runs = run_program("aider_package.py", "aider")
    assert [_the_request(stack, run["word"])["stream"] for run in runs] == [True, False]
    for run in runs:
        answer = _the_request(stack, run["word"])
        assert (run["code"], answer["operation"], answer["status"]) == (0, "chat", 200)
        assert answer["prompt"].startswith(f"Correct {run['word']}")
        assert answer["completion_tokens"] > 0
        assert answer["response"].split()[0] in run["said"]
        assert "Error" not in run["said"]  # of litellm, which it prints before it asks again


def _the_request(stack: Running, word: str) -> dict[str, Any]:
    """The app's log line of the first request that has this word in its prompt."""

    def find() -> dict[str, Any] | None:
        for service, line in stack.stack.log_lines(follow=False, tail=1000):
            if service == "app" and word in line and line.startswith("{"):
                fields: dict[str, Any] = json.loads(line)
                if fields.get("event") == "request":
                    return fields
        return None

    return await_true(find, "aider's request in the app's log")
