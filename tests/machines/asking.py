"""A question to the stack on a machine, through its nginx, with what Debian has."""

from tests.machines.machine import Machine

_ASK = """python3 - <<'END'
import json
from urllib.request import Request, urlopen
body = json.dumps({"prompt": "Say hello.", "history": [], "max_length": 24}).encode()
request = Request("%s", body, {"Content-Type": "application/json"})
print(json.load(urlopen(request, timeout=120))["response"])
END"""


def answer(machine: Machine, address: str = "http://127.0.0.1:6006") -> str:
    """What the model says, in words."""
    done = machine.run(_ASK % address, user=machine.user, reported=False)
    assert done.code == 0, done.output
    return done.output.strip()
