"""Log-probabilities of a prompt's tokens equal those of the stock model, whatever else runs."""

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from app.contract.events import FinishReason, TokenEvent
from app.engine.execution import prompt_scores
from app.engine.kv.pages import PAGE_SIZE
from app.engine.loading.startup import adapt
from app.engine.sampling.logprobs import picked
from tests.support.driving import Driver, drive, over_pages, sequences_of
from tests.support.split import split
from tests.support.tiny import VOCABULARY, tiny_deepseek, tiny_llama

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: tiny_llama(num_hidden_layers=3),
    "deepseek": lambda: tiny_deepseek(yarn=True, num_hidden_layers=3),
}
PLACES: dict[str, Callable[[Any], object]] = {
    "one device": lambda _: None,
    "as served without a GPU": lambda model: adapt(over_pages(model), torch.float32, on_gpu=False),
    "two GPUs": lambda model: split(model, 2),
    "a real GPU": lambda model: model.to("cuda"),
}
TOP = 3


@functools.cache
def stock(family: str) -> Any:
    return FAMILIES[family]()


class Case:
    def __init__(self, family: str, place: str) -> None:
        self._family, self._place = family, PLACES[place]
        self._random = random.Random(3)

    def drive(self, **settings: Any) -> Driver:
        model = FAMILIES[self._family]()
        self._place(model)
        return drive(model, **settings)

    def prompt(self, length: int) -> list[int]:
        return [self._random.randrange(3, VOCABULARY) for _ in range(length)]

    def check(self, prompt: list[int], scored: list[TokenEvent], top: int = TOP) -> None:
        """Against the stock model's own logits, all at once."""
        logits = stock(self._family)(torch.tensor([prompt])).logits[0].float()
        expected = logits.log_softmax(dim=-1)
        assert [event.token for event in scored] == prompt
        assert scored[0] == TokenEvent(prompt[0])
        for row, event in zip(expected, scored[1:], strict=False):
            assert event.logprob == pytest.approx(float(row[event.token]), abs=2e-4)
            assert len(event.top_logprobs) == top
            best = row.topk(top).values.tolist()
            assert [value for _, value in event.top_logprobs] == pytest.approx(best, abs=2e-4)
            for other, value in event.top_logprobs:
                assert value == pytest.approx(float(row[other]), abs=2e-4)


@pytest.fixture(scope="module", params=[(family, place) for place in PLACES for family in FAMILIES], ids="-".join)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    family, place = request.param
    if place == "a real GPU" and not torch.cuda.is_available():
        pytest.skip("this machine has no GPU that torch can use")
    with torch.inference_mode():
        yield Case(family, place)


@pytest.mark.parametrize("chunk", [1, 16, 1000])
def test_alone_in_chunks_and_whole(case: Case, chunk: int) -> None:
    driver = case.drive(chunk=chunk)
    for name, length in {"long": 130, "two tokens": 2, "one token": 1}.items():
        prompt = case.prompt(length)
        answer = driver.ask(name, prompt, 5, prompt_logprobs=TOP)
        case.check(prompt, driver.prompts[name])
        assert answer == driver.ask(f"{name} again", prompt, 5), "the answer is that of any other request"


def test_in_blocks_of_the_head(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a large vocabulary makes them."""
    widths = []

    def seen(logits: torch.Tensor, tokens: torch.Tensor, most: int) -> Any:
        widths.append(logits.shape)
        return picked(logits, tokens, most)

    monkeypatch.setattr(prompt_scores, "picked", seen)
    monkeypatch.setattr(prompt_scores, "BLOCK_SCORES", 10 * VOCABULARY)
    prompt = case.prompt(75)
    driver = case.drive(chunk=50)
    driver.ask("a", prompt, 1, prompt_logprobs=TOP)
    case.check(prompt, driver.prompts["a"])
    assert max(rows for rows, _ in widths) == 10
    assert sum(rows for rows, _ in widths) == 74


def test_among_others_of_all_kinds(case: Case) -> None:
    driver = case.drive(chunk=24)
    prompts = {str(number): case.prompt(length) for number, length in enumerate([90, 3, 40, 17, 1, 64])}
    driver.submit("decodes", case.prompt(20), 40)
    driver.run(until=lambda: len(driver.tokens["decodes"]) > 3)
    for name, prompt in prompts.items():
        wanted = None if name == "2" else int(name) % 3
        driver.submit(name, prompt, 3, prompt_logprobs=wanted)
    driver.run()
    assert set(driver.prompts) == set(prompts) - {"2"}
    for name in driver.prompts:
        case.check(prompts[name], driver.prompts[name], top=int(name) % 3)


def test_no_known_page_takes_the_place_of_a_row(case: Case) -> None:
    """What the prefix cache knows is computed again, and what such a request computed is known to others."""
    driver = case.drive()
    prompt = case.prompt(3 * PAGE_SIZE + 20)
    answer = driver.ask("first", prompt, 8)
    driver.submit("second", prompt, 8, prompt_logprobs=TOP)
    driver.submit("beside", prompt, 8, prompt_logprobs=TOP)
    driver.run()
    for name in ("second", "beside"):
        case.check(prompt, driver.prompts[name])
        assert driver.finished[name].usage.cached_tokens == 0
        assert driver.tokens[name] == answer
    assert driver.ask("third", prompt, 8) == answer
    assert driver.finished["third"].usage.cached_tokens == len(prompt) - 1


def test_a_prompt_that_is_preempted_is_told_once(case: Case) -> None:
    driver = case.drive(kv_tokens=9 * PAGE_SIZE, chunk=2)
    old, young = case.prompt(90), case.prompt(130)
    driver.submit("old", old, 60)
    driver.submit("young", young, 6, prompt_logprobs=TOP)
    (sequence,) = [s for s in sequences_of(driver.scheduler) if s.id == "young"]
    driver.run(until=lambda: sequence.preemptions > 0)
    assert 1 < len(driver.prompts["young"]) < len(young), "this test is about a prompt that is half computed"
    driver.run()
    case.check(young, driver.prompts["young"])
    alone = case.drive()
    assert driver.tokens == {"old": alone.ask("old", old, 60), "young": alone.ask("young", young, 6)}


def test_an_answer_that_is_preempted_finds_its_own_pages(case: Case) -> None:
    """Once the prompt's rows are out, nothing of it need be computed again."""
    driver = case.drive(kv_tokens=8 * PAGE_SIZE, max_sequences=4, chunk=8)
    prompts = {str(n): case.prompt(20 + 3 * n) for n in range(4)}
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 60, prompt_logprobs=TOP)
    sequences = sequences_of(driver.scheduler)
    driver.run()
    assert sum(sequence.preemptions for sequence in sequences) > 0, "this test is about preemption"
    for name, prompt in prompts.items():
        case.check(prompt, driver.prompts[name])


def test_a_step_that_failed_tells_nothing_twice(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = case.drive(chunk=16)
    prompt = case.prompt(70)
    driver.submit("a", prompt, 2, prompt_logprobs=TOP)
    driver.runner.step()
    with monkeypatch.context() as patch:
        patch.setattr(prompt_scores, "picked", _out_of_memory)
        driver.runner.step()
    driver.run()
    case.check(prompt, driver.prompts["a"])


def _out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("no memory for these scores")


def test_no_new_token_is_wanted(case: Case) -> None:
    driver = case.drive(chunk=16)
    for name, length in {"one token": 1, "long": 50}.items():
        prompt = case.prompt(length)
        assert driver.ask(name, prompt, 0, prompt_logprobs=TOP) == []
        case.check(prompt, driver.prompts[name])
        end = driver.finished[name]
        assert (end.reason, end.error, end.usage.completion_tokens) == (FinishReason.LENGTH, None, 0)
    assert driver.ask("nothing is wanted", case.prompt(9), 0) == []
    assert driver.scheduler.kv.pool.in_use == 0
