"""What documents say of GPUs is what the committed runs measured, and what the arithmetic computes."""

import re
from itertools import groupby
from pathlib import Path

import pytest
import torch

from app.models.catalogue import DEEPSEEK
from bench.arithmetic import estimates
from bench.arithmetic.readme import table
from bench.arithmetic.runs import committed
from bench.arithmetic.sheets import CARDS
from bench.arithmetic.work import Model
from bench.simulation import tables as simulated
from bench.simulation.cards import cards

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="launches are counted by Triton's interpreter")

ROOT = Path(__file__).parents[2]


def words(document: str, heading: str) -> str:
    """The section's text, without its line breaks."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return " ".join(text.split(f"\n## {heading}\n")[1].split("\n## ")[0].split())


def tables(document: str) -> list[list[tuple[str, ...]]]:
    """Every table of a document, row by row."""
    lines = (ROOT / document).read_text(encoding="utf-8").splitlines()
    found = groupby(lines, key=lambda line: line.startswith("|"))
    return [
        [tuple(cell.strip() for cell in row.split("|")[1:-1]) for row in rows] for is_row, rows in found if is_row
    ]


def cells(document: str, head: str) -> list[tuple[str, ...]]:
    """The rows of the table whose first line begins so."""
    begun = _cells(head)
    (rows,) = [rows for rows in tables(document) if rows[0][: len(begun)] == begun]
    return rows[2:]


def _cells(row: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in row.split("|")[1:-1])


def test_the_readme_has_the_figures_of_the_runs_and_of_the_estimate() -> None:
    """`python -m bench.arithmetic` prints the lines."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## What was measured on GPUs\n")[1]
    lines = section.split("\n## ")[0].splitlines()
    assert [line for line in lines if line.startswith("|")] == table()


def test_the_readme_names_the_versions_that_ran_and_those_that_are_served() -> None:
    text = words("README.md", "What was measured on GPUs")
    pins = dict(re.findall(r'"(torch|triton)==([\d.]+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    (ran,) = {run.torch for run in committed().values()}
    assert f"torch {ran}; the product has {pins['torch']}, with Triton {pins['triton']}" in text


def test_the_readme_says_how_uncertain_the_estimate_is() -> None:
    (pair, *_) = cards()
    fewest, most = estimates.slower(pair)
    assert f"For 32 users it is {fewest:.0f} to {most:.0f}" in words("README.md", "What was measured on GPUs")


def test_decision_0008_has_the_estimated_times_of_prompts() -> None:
    (pair, *_) = cards()
    text = words("docs/decisions/0008-both-gpus-on-one-prompt.md", "Figures")

    def took(tokens: int, before: int, counts: tuple[int, ...]) -> list[str]:
        return [f"{1e3 * estimates.prompt(pair, tokens, before, count):.0f}" for count in counts]

    whole, two, four = took(2048, 0, (1, 2, 4))
    assert f"2,048 tokens take {whole} ms as a whole, {two} in two parts and {four} in four" in text
    whole, two = took(512, 0, (1, 2))
    assert f"512 tokens {whole} ms and {two} in two parts" in text
    whole, two, four = took(2048, 8192, (1, 2, 4))
    assert f"behind 8,192 {whole} ms, {two} and {four}" in text


def test_scaling_has_the_least_times_of_the_arithmetic_and_the_simulations_steps() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    need = Model(DEEPSEEK.config()).decode(32, 2048)
    least = [f"{1e3 * need.floor(*card):.1f} ms" for card in CARDS.values()]
    assert f"| {' | '.join(least)} |" in text
    played = [f"{1e3 * card.decode(32, 32 * 2048):.1f} ms" for card in cards()]
    assert f"| {' | '.join(played)} |" in text


def test_decision_0007_has_what_the_cards_took_for_12_and_for_32_sequences() -> None:
    text = words("docs/decisions/0007-decode-steps-on-gpus.md", "Figures")
    _, *measured = cards()
    for card, (name, run) in zip(measured, committed().items(), strict=True):
        busy = run.busy(32)
        times = busy / estimates.least(card, 32, 512)
        assert f"{1e3 * busy:.2f} ms on the {name}, {times:.2f} times the least and {32 / busy:,.0f} tokens/s" in text
    steps = [run.step(12, 2048) for run in committed().values()]
    first, second = (f"{1e3 * step:.2f}" for step in steps)
    assert f"{first} ms on the H100 and {second} on the H200" in text
    first, second = (f"{12 / step:,.0f}" for step in steps)
    assert f"are {first} and {second}" in text
    first, second = (
        f"{step / estimates.least(card, 12, 2048):.2f}" for card, step in zip(measured, steps, strict=True)
    )
    assert f"{first} and {second} times the least for 12" in text


def test_the_simulation_was_played_with_the_steps_of_today() -> None:
    assert simulated.steps(cards()) in (ROOT / "bench" / "SIMULATION.md").read_text(encoding="utf-8")


def test_scaling_has_the_users_that_the_simulation_found() -> None:
    told = {
        (name.removesuffix(" (estimated)"), users.removesuffix("s")): rest
        for name, users, *rest in cells("docs/scaling.md", "| boxes of |")
    }
    one = {
        (name, users): most
        for name, _, *found in cells("bench/SIMULATION.md", "| a box | GPUs |")
        for users, most in zip(("chat", "agent"), found, strict=True)
    }
    several = {(name, users): rest for name, users, *rest in cells("bench/SIMULATION.md", "| boxes of |")}
    assert told == {key: [one[key], *rest] for key, rest in several.items()}


def test_scaling_has_what_the_simulation_found_of_several_boxes() -> None:
    whole, lost, _ = (rows for rows in tables("bench/SIMULATION.md") if rows[0][0] == "chosen by")
    names = {"nginx, least_conn": "`least_conn`", "nginx, by key": "`key`", "a gateway": "a gateway, below"}
    expected = {
        (names.get(row[0], f"{row[0]}, below"), row[3], row[5], row[8].replace("%", " %"), other[3])
        for row, other in zip(whole[2:], lost[2:], strict=True)
    }
    assert expected == set(cells("docs/scaling.md", "| | first token, 95 of 100 within |"))
