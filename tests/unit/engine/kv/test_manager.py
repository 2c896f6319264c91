"""Keys or values that are no numbers: who computed with their pages fails, and nobody after them."""

import math

import pytest
import torch

from app.contract.errors import GenerationFailed
from app.contract.events import FinishReason
from app.contract.requests import SamplingParams
from app.engine.kv.pages import PAGE_SIZE
from tests.support.driving import Driver, drive, sequences_of
from tests.support.tiny import tiny_llama

PROMPT = [(7 * n) % 400 + 3 for n in range(9 * PAGE_SIZE + 12)]
BAN_ALL = SamplingParams(seed=1, temperature=0.0, logit_bias=dict.fromkeys(range(512), -math.inf))


@pytest.fixture
def driver() -> Driver:
    return drive(tiny_llama(), chunk=16)


def poison(driver: Driver, name: str) -> None:
    """Let the first page of a running request hold NaN, as a faulty kernel or a flipped bit leaves it."""
    (page,) = (sequence.pages[0] for sequence in sequences_of(driver.scheduler) if sequence.id == name)
    driver.runner._executor._cache.storage(0).keys[page] = torch.nan


def failed(driver: Driver, *names: str) -> bool:
    return all(isinstance(driver.finished[name].error, GenerationFailed) for name in names)


def answers_as_alone(driver: Driver, name: str, prompt: list[int], tenant: str = "a") -> None:
    """Computed anew, and after that from known pages."""
    expected = drive(tiny_llama()).ask(name, prompt)
    assert driver.ask(name, prompt, tenant=tenant) == expected
    assert driver.finished[name].usage.cached_tokens == 0
    again = f"{name} again"
    assert driver.ask(again, prompt, tenant=tenant) == expected
    assert driver.finished[again].usage.cached_tokens == len(prompt) - 1


def test_who_took_over_a_poisoned_page_fails_and_the_next_is_answered() -> None:
    driver = drive(tiny_llama(), chunk=16, share=True)
    driver.submit("wrote it", PROMPT, tenant="alice")
    driver.run(until=lambda: sequences_of(driver.scheduler)[0].computed >= PAGE_SIZE)
    poison(driver, "wrote it")
    driver.submit("took it over", [*PROMPT, 9, 9], tenant="bob")
    driver.run()
    assert failed(driver, "wrote it", "took it over")
    assert driver.finished["took it over"].usage.cached_tokens >= PAGE_SIZE
    answers_as_alone(driver, "after", [*PROMPT, 5], "carol")
    assert driver.scheduler.kv.pool.in_use == 0


def test_who_followed_a_poisoned_prompt_of_its_own_tenant_is_answered(driver: Driver) -> None:
    """It took no page before the other one's end."""
    driver.submit("wrote it", PROMPT, tenant="a")
    driver.run(until=lambda: sequences_of(driver.scheduler)[0].computed >= PAGE_SIZE)
    poison(driver, "wrote it")
    followed = [*PROMPT, 9, 9]
    driver.submit("followed it", followed, tenant="a")
    driver.run()
    assert failed(driver, "wrote it")
    assert driver.tokens["followed it"] == drive(tiny_llama()).ask("alone", followed)
    assert driver.finished["followed it"].usage.cached_tokens == 0
    assert driver.ask("after", [*PROMPT, 5], tenant="a") == drive(tiny_llama()).ask("alone", [*PROMPT, 5])


def test_a_prompt_that_was_cancelled_before_its_end_fails_one_that_uses_its_pages_and_no_other(
    driver: Driver,
) -> None:
    driver.submit("cancelled", PROMPT, tenant="a")
    driver.run(until=lambda: sequences_of(driver.scheduler)[0].computed >= PAGE_SIZE)
    poison(driver, "cancelled")
    driver.runner.cancel("cancelled")
    driver.ask("first", [*PROMPT, 5], tenant="a")
    assert failed(driver, "first")
    answers_as_alone(driver, "second", [*PROMPT, 5])


def test_a_page_that_began_as_a_copy_takes_its_source_with_it(driver: Driver) -> None:
    driver.submit("source", PROMPT[:20], 2, tenant="a")
    driver.run(until=lambda: len(driver.tokens["source"]) == 1)
    poison(driver, "source")
    driver.runner.cancel("source")
    driver.ask("copy", [*PROMPT[:18], *range(50)], tenant="a")
    assert failed(driver, "copy")
    assert driver.finished["copy"].usage.cached_tokens == 18
    answers_as_alone(driver, "after", [*PROMPT[:18], *range(60, 100)])


def test_rules_that_leave_no_token_take_no_pages_away(driver: Driver) -> None:
    """Else anybody could have all prefixes computed anew, again and again."""
    driver.ask("before", PROMPT, tenant="a")
    driver.ask("banned", [*PROMPT, *range(2 * PAGE_SIZE)], sampling=BAN_ALL, tenant="a")
    assert failed(driver, "banned")
    driver.ask("after", [*PROMPT, *range(2 * PAGE_SIZE), 5], tenant="a")
    assert driver.finished["after"].reason is FinishReason.LENGTH
    assert driver.finished["after"].usage.cached_tokens == len(PROMPT) + 2 * PAGE_SIZE
