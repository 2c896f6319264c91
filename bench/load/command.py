"""`python -m bench load`: puts load on any server."""

import argparse
import asyncio
from collections.abc import Sequence

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.load.ask import Ask, Chat, Classic
from bench.load.loop import closed_loop
from bench.load.outcome import Figures, Outcome, figures
from bench.model import text_tokens
from bench.prompts import questions
from bench.report import number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", required=True, help="http://HOST:PORT")
    parser.add_argument("--api", choices=["chat", "classic"], default="chat", help="/v1/chat/completions or POST /")
    parser.add_argument("--model", default="smollm2-135m", help="the name that the server expects (chat)")
    parser.add_argument("--clients", default="1,4,16,32", help="numbers of concurrent clients, with commas")
    parser.add_argument("--requests", type=int, help="number of requests; default: four per client")
    parser.add_argument("--tokens", type=int, default=64, help="most new tokens of an answer")
    parser.add_argument(
        "--start", type=int, default=0, help="the first question's number; another one avoids cached prefixes"
    )


def run(arguments: argparse.Namespace) -> int:
    """1 when there was an error."""
    ask: Ask
    if arguments.api == "chat":
        ask = Chat(arguments.url.rstrip("/"), arguments.model, arguments.tokens)
    else:
        ask = Classic(arguments.url.rstrip("/"), arguments.tokens, {"stream": True})
    found = []
    errors: list[str] = []
    start = arguments.start
    for clients in (int(text) for text in arguments.clients.split(",")):
        prompts = questions(arguments.requests or 4 * clients, start)
        start += len(prompts)
        outcomes = asyncio.run(closed_loop(ask, track(prompts, f"{clients} clients"), clients))
        errors += [outcome.error for outcome in outcomes if outcome.error]
        found.append(figures(counted(outcomes), clients))
    console = Console()
    console.print(table(found))
    for error in sorted(set(errors))[:5]:
        console.print(error, style="red", markup=False)
    return 1 if errors else 0


def counted(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Where the server does not say the number of tokens, count those of the text with the embedded tokenizer."""
    return [o if o.error or o.tokens is not None else o.counted(text_tokens(o.text)) for o in outcomes]


def table(found: Sequence[Figures]) -> Table:
    columns = ["clients", "answers", "errors", "tokens", "seconds", "tokens/s", "first token", "95 %"]
    columns += ["between pieces", "95 %", "worst", "whole answer"]
    shown = Table(*columns, caption="Medians, in seconds. Tokens: as the server counts them, else tokenized text.")
    for each in found:
        values = [each.seconds, each.tokens_per_second, each.first_token, each.first_token_95]
        values += [each.gap, each.gap_95, each.gap_worst, each.answer]
        counts = [str(count) for count in (each.clients, each.answers, each.errors, each.tokens)]
        shown.add_row(*counts, *("-" if value is None else number(value) for value in values))
    return shown
