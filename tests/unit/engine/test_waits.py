"""A step waits for its devices once, for its tokens, whatever its requests ask for, and for none of its copies."""

from typing import Any

import pytest
import torch

from app.contract.requests import SamplingParams
from tests.support.driving import Driver, drive
from tests.support.simgpu import Crossing, crossings
from tests.support.split import split
from tests.support.tiny import tiny_llama

ASKED: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "drawn": {"temperature": 0.8},
    "drawn by top_p": {"temperature": 0.8, "top_p": 0.05},  # 64 tokens decide; a flat distribution takes more
    "as POST / does": {"temperature": 0.7, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1},
    "penalties": {"temperature": 0.0, "presence_penalty": 0.5, "frequency_penalty": 0.5},
    "a bias": {"temperature": 0.0, "logit_bias": {5: -3.0}},
    "a least length": {"temperature": 0.0, "min_tokens": 9},
}


def running(**asked: Any) -> Driver:
    """Two sequences that decode over two GPUs, one of them as asked."""
    model = tiny_llama()
    split(model, model.config.num_hidden_layers // 2)
    driver = drive(model)
    driver.submit("asked", [5, 6, 7], sampling=SamplingParams(seed=0, **asked))
    driver.submit("greedy", [9])
    driver.run(until=lambda: all(len(tokens) >= 2 for tokens in driver.tokens.values()))
    return driver


def step(driver: Driver) -> tuple[list[Crossing], list[Crossing]]:
    """The copies to a device that the host waited for, and its waits for numbers."""
    with crossings() as recorded:
        driver.runner.step()
    blocking = [each for each in recorded if each.source.type == "cpu" and each.blocking]
    return blocking, [each for each in recorded if each.target.type == "cpu"]


@pytest.mark.parametrize("asked", list(ASKED))
def test_one_wait_and_no_blocking_copy(asked: str) -> None:
    driver = running(**ASKED[asked])
    blocking, waits = step(driver)
    assert blocking == []
    assert [each.shape for each in waits] == [(2, 2)], "tokens and verdicts of two rows"


@pytest.mark.parametrize("asked", list(ASKED))
def test_a_request_that_joins_adds_none(asked: str) -> None:
    driver = running(temperature=0.0)
    driver.submit("joins", [3, 4], sampling=SamplingParams(seed=0, **ASKED[asked]))
    blocking, waits = step(driver)
    assert blocking == []
    assert [each.shape for each in waits] == [(2, 3)], "and its first token is among them"


def test_log_probabilities_take_one_more_wait() -> None:
    blocking, waits = step(running(temperature=0.0, top_logprobs=3))
    assert blocking == []
    assert len(waits) == 2


@pytest.fixture(autouse=True)
def _inference() -> Any:
    with torch.inference_mode():
        yield
