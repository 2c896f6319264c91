"""The whole stack through nginx against a server that answers one request at a time, both over `POST /`."""

import os
import sys

from bench.load.ask import Classic
from bench.measures.turns import Contestant, ratios, table, take_turns
from bench.model import FOLDER
from bench.results import Finding, Row
from bench.run import Run
from bench.servers.process import server
from bench.servers.stack import running_stack
from stack.host.ports import free_ports

TARGET = 25.0
TOKENS = 64
LEVELS = (1, 4, 16, 32)
STACK, BASELINE = "the stack", "one at a time"


def measure(run: Run) -> Finding:
    tokens, levels = run.sizes(TOKENS, 8), LEVELS if not run.quick else (1, 4)
    (port,) = free_ports(1)
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "bench.servers.one_at_a_time", str(FOLDER), str(port)]
    run.bar.say("starting both servers")
    with (
        server(command, f"{base}/readyz", name="one-at-a-time", environment=os.environ),
        running_stack() as stack,
    ):
        contestants = {
            STACK: Contestant(Classic(stack.base, tokens), lambda clients: max(8, 4 * clients), stack.counted),
            # More requests would only wait longer: its speed does not depend on how many wait.
            BASELINE: Contestant(Classic(base, tokens), lambda clients: max(6, clients)),
        }
        measured = take_turns(contestants, levels, run)
    row = Row(
        measure=f"the whole stack through nginx, {levels[-1]} clients, against the one-at-a-time server, tokens/s",
        value=ratios(measured, STACK, BASELINE, levels[-1]),
        target=TARGET,
    )
    notes = [
        f"Whole answers over `POST /`, sampled with the contract's defaults on both sides, at most {tokens} tokens.",
        "Tokens as each server counted them.",
        "The first text is the whole answer: neither was asked to stream.",
    ]
    return Finding(rows=[row], table=table(measured, STACK, BASELINE, levels), notes=notes)
