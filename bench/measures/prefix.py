"""Conversations behind one system prompt: the KV memory that they share, and the time that it saves."""

from itertools import chain, takewhile
from typing import Any

from app.engine.kv.pages import PAGE_SIZE
from bench.measures.kv_loads import most_beside, peak_beside
from bench.model import SETTINGS, text_tokens, token_prompts
from bench.prompts import conversation, questions
from bench.results import Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.pipe import Worker, worker

CONVERSATIONS = 32
SYSTEM = 1000  # tokens
ANSWER = 64
PAGES, FASTER = 1.0, 0.5


def measure(run: Run) -> Finding:
    length, count = run.sizes(SYSTEM, 200), run.sizes(CONVERSATIONS, 4)
    found = []
    run.bar.total(1 + run.rounds)
    run.bar.say("loading the engine")
    with worker("bench.workers.engine", name="engine", environment=SETTINGS) as engine:
        for number in range(1 + run.rounds):  # the first one warms up
            run.bar.say(f"round {number} of {run.rounds}")
            found.append(_round(engine, number, length, count))
            run.bar.step()
    return _finding(found[1:], length, count)


def _round(engine: Worker, number: int, length: int, count: int) -> dict[str, Any]:
    """All at once behind one system prompt, then one after another behind another one."""
    at_once, in_turn = (_prompts(2 * number + n, length, count) for n in range(2))
    told = engine.ask(prompts=at_once, tokens=ANSWER)
    own = [len(prompt) - length for prompt in at_once]
    firsts = [engine.ask(prompts=[prompt], tokens=1)["seconds"] for prompt in in_turn]
    return {
        "beside": most_beside(told, [length, *own]),
        "most": max(used for _, _, used, _ in told["loads"]),
        "peak": peak_beside(told, [length, *own]),
        "own": length + sum(own) + count * ANSWER,
        "first": firsts[0],
        "last": firsts[-1],
    }


def _prompts(seed: int, length: int, count: int) -> list[list[int]]:
    """Different questions after `length` tokens of the same system prompt."""
    words = " ".join(chain(*chain(*conversation(2 * length, seed)))).split()
    words = words[: 11 * len(words) * length // text_tokens(" ".join(words)) // 10]
    # Of different lengths: else all would take their next pages in the same steps.
    asked = [f"{text} {' '.join(words[: 7 * n % 64])}" for n, text in enumerate(questions(count, seed * count))]
    prompts = token_prompts(asked, " ".join(words))
    shared = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False)))
    return [prompt[:length] + prompt[shared:] for prompt in prompts]


def _finding(found: list[dict[str, Any]], length: int, count: int) -> Finding:
    conversations = f"{count} conversations behind a system prompt of {length:,} tokens"
    rows = [
        Row(
            measure=f"{conversations}, all running: KV tokens beside it and their own, pages per conversation",
            value=Spread.of([each["beside"] / PAGE_SIZE / count for each in found]),
            target=PAGES,
            bound="at most",
            unit="pages",
        ),
        Row(
            measure=f"{conversations}, the peak at any time from their arrival: the same",
            value=Spread.of([each["peak"] / PAGE_SIZE / count for each in found]),
            target=PAGES,
            bound="at most",
            unit="pages",
        ),
        Row(
            measure=f"{conversations}, one after another: time to the last one's first token by the first one's",
            value=Spread.of_ratios([each["last"] for each in found], [each["first"] for each in found]),
            target=FASTER,
            bound="at most",
        ),
    ]
    names = {
        "own": ("tokens of the system prompt and of all conversations at their end", 1),
        "beside": ("KV tokens beside those, the most while all run", 1),
        "peak": ("KV tokens beside those, the most at any time from the arrival of all until the first ends", 1),
        "most": ("KV tokens in use, the most at any time", 1),
        "first": ("time to the first conversation's first token, ms", 1000),
        "last": ("time to the last conversation's first token, ms", 1000),
    }
    lines = []
    for name, (label, factor) in names.items():
        spread = Spread.of([factor * each[name] for each in found])
        lines.append([label, spread.median, spread.low, spread.high])
    notes = [
        f"A page has {PAGE_SIZE} tokens; what of the system prompt fills no page is not shared.",
        "In the engine's process, without HTTP; every round has new system prompts.",
        "All arrive at once. While one computes the system prompt, the others hold no pages for it.",
    ]
    return Finding(rows=rows, table=Table(columns=["", "median", "lowest", "highest"], rows=lines), notes=notes)
