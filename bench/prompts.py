"""Short programming questions, as many different ones as a measurement needs.

In the embedded model's chat template a question has about 64 tokens. No two are equal, and they differ early, so that
a server's prefix cache saves the template alone.
"""

import random

_VERBS = ("Write", "Sketch", "Show", "Draft", "Give", "Design", "Develop", "Compose")
_LANGUAGES = ("Python", "Go", "Rust", "Java", "C", "TypeScript", "Kotlin", "Ruby", "Swift", "Lua")
_TASKS = (
    "merges two sorted lists into one and keeps duplicates",
    "counts how often each word occurs in a text file",
    "checks whether the brackets of an expression are balanced",
    "finds the longest line in a log and prints its number",
    "converts a Roman numeral into an integer",
    "removes every repeated entry from a list but keeps its order",
    "reads a CSV table and sums one column by a key",
    "computes the shortest path through a grid with walls",
    "parses a date such as 2024-06-23 without a library",
    "keeps the most recent hundred entries of a cache",
    "rotates a square matrix by ninety degrees in place",
    "splits a list into pieces of equal size",
    "retries a failing call three times with growing pauses",
    "validates an email address and says what is wrong with it",
    "draws a small bar chart with characters on a terminal",
    "compares two version numbers such as 1.10.2 and 1.9",
)
_ENDS = (
    "Explain each step before the code, then show one call and what it prints.",
    "Start with the main idea, then the code, then say what happens for empty input.",
    "Describe the algorithm in words first, and finish with its running time.",
    "Add comments, two small tests, and a remark about invalid arguments.",
    "Discuss an alternative at the end and say when it would be the better choice.",
    "Name the edge cases first, then handle each of them in the code below.",
)


TOTAL = len(_VERBS) * len(_LANGUAGES) * len(_TASKS) * len(_ENDS)


def questions(count: int, start: int = 0) -> list[str]:
    """`count` questions from the `start`-th on, in an order that is always the same. Raises ValueError at the end."""
    if start + count > TOTAL:
        raise ValueError(f"there are only {TOTAL} questions")
    order = random.Random(0).sample(range(TOTAL), TOTAL)
    return [_question(number) for number in order[start : start + count]]


def conversation(words: int, seed: int) -> list[list[str]]:
    """Earlier turns, `[question, answer]` each, with about `words` words together."""
    chance = random.Random(seed)
    turns = []
    while words > 0:
        question = _question(chance.randrange(TOTAL))
        answer = " ".join(f"It {task}." for task in chance.sample(_TASKS, 8))
        turns.append([question, answer])
        words -= len(question.split()) + len(answer.split())
    return turns


def _question(number: int) -> str:
    number, verb = divmod(number, len(_VERBS))
    number, language = divmod(number, len(_LANGUAGES))
    end, task = divmod(number, len(_TASKS))
    return f"{_VERBS[verb]} a {_LANGUAGES[language]} function that {_TASKS[task]}. {_ENDS[end]}"
