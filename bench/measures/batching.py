"""The whole stack through nginx against transformers' own server with continuous batching."""

from bench.load.ask import Chat
from bench.measures.turns import Contestant, ratios, table, take_turns
from bench.results import Finding, Row
from bench.run import Run
from bench.servers.stack import running_stack
from bench.servers.transformers_serve import MODEL, ensure_installed, running_transformers_serve
from stack.install.dependencies import EMBEDDED

TARGET = 2.2
TOKENS = 64
LEVELS = (1, 4, 16, 32)
STACK, THEIRS = "the stack", "transformers serve"


def measure(run: Run) -> Finding:
    tokens, levels = run.sizes(TOKENS, 8), LEVELS if not run.quick else (1, 4)
    run.bar.say("installing transformers serve, if it is missing: minutes")
    ensure_installed()
    run.bar.say("starting both servers")
    with running_transformers_serve() as theirs, running_stack() as stack:
        contestants = {
            STACK: Contestant(Chat(stack.base, EMBEDDED, tokens), _requests),
            THEIRS: Contestant(Chat(theirs, MODEL, tokens), _requests),
        }
        measured = take_turns(contestants, levels, run)
    row = Row(
        measure=f"the whole stack through nginx, {levels[-1]} clients, against `transformers serve`, tokens/s",
        value=ratios(measured, STACK, THEIRS, levels[-1]),
        target=TARGET,
    )
    notes = [
        "`transformers serve --continuous-batching`, the same version of transformers and torch, on its own port.",
        f"`/v1/chat/completions`, streamed, greedy, at most {tokens} new tokens; the same requests to both.",
        "Tokens as each server counted them in `usage`.",
    ]
    return Finding(rows=[row], table=table(measured, STACK, THEIRS, levels), notes=notes)


def _requests(clients: int) -> int:
    return max(8, 4 * clients)
