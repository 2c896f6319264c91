"""The engine's first test: greedy output in float32 equals `model.generate`, token for token, whatever else runs."""

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from app.contract.requests import SamplingParams
from app.engine.attention.backends import partial
from app.engine.execution.decoder import Decoder
from app.engine.execution.graphs.decode_graphs import DecodeGraphs
from app.engine.kv.pages import PAGE_SIZE
from app.engine.loading.startup import adapt
from tests.support.driving import Driver, drive, over_pages, reference, sequences_of
from tests.support.split import split
from tests.support.tiny import VOCABULARY, tiny_deepseek, tiny_llama

pytestmark = pytest.mark.no_cover  # decision 0307

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: tiny_llama(num_hidden_layers=3),
    "deepseek": lambda: tiny_deepseek(yarn=True, num_hidden_layers=3),
}
"""Three layers: DeepSeek's first is dense, and the first of two GPUs has two of them."""

PLACES: dict[str, Callable[[Any], object]] = {
    "one device": lambda _: None,
    "as served without a GPU": lambda model: adapt(over_pages(model), torch.float32, on_gpu=False),
    "two GPUs": lambda model: split(model, 2),
    "a real GPU": lambda model: _onto_a_gpu(model),  # noqa: PLW0108  # it is defined below
}


def _onto_a_gpu(model: Any) -> None:
    """Decode steps are captured there: in float32 the default for experts waits for the device, and this does not."""
    model.to("cuda")
    model.config._experts_implementation = "batched_mm"


@functools.cache
def stock(family: str) -> Any:
    return FAMILIES[family]()


@functools.cache
def answer_of_stock(family: str, tokens: tuple[int, ...], max_tokens: int) -> list[int]:
    """Known for every place: each asks for the same prompts, and the stock model knows no places."""
    return reference(stock(family), list(tokens), max_tokens)


class Case:
    """A model, driven, and its own `generate` to compare with."""

    def __init__(self, family: str, place: str) -> None:
        self._family = family
        self._place = PLACES[place]
        self._random = random.Random(7)

    def drive(self, **settings: Any) -> Driver:
        model = FAMILIES[self._family]()
        self._place(model)
        return drive(model, **settings)

    def prompt(self, length: int) -> list[int]:
        return [self._random.randrange(3, VOCABULARY) for _ in range(length)]

    def expected(self, tokens: list[int], max_tokens: int = 12) -> list[int]:
        return answer_of_stock(self._family, tuple(tokens), max_tokens)


@pytest.fixture(scope="module", params=[(family, place) for place in PLACES for family in FAMILIES], ids="-".join)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    family, place = request.param
    if place == "a real GPU" and not torch.cuda.is_available():
        pytest.skip("this machine has no GPU that torch can use")
    with torch.inference_mode():
        yield Case(family, place)


def test_one_alone(case: Case) -> None:
    prompt = case.prompt(33)
    assert case.drive().ask("one", prompt, 24) == case.expected(prompt, 24)


def test_thirty_two_at_once_of_different_lengths(case: Case) -> None:
    driver = case.drive()
    prompts = {
        str(i): case.prompt(length) for i, length in enumerate([1, 2, 3, 5, 9, 17, 40, 77, 130, 300] * 3 + [1, 64])
    }
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 8 + int(name) % 7)
    driver.run()
    for name, prompt in prompts.items():
        assert driver.tokens[name] == case.expected(prompt, 8 + int(name) % 7), f"prompt of {len(prompt)}"


@pytest.mark.parametrize("chunk", [1, 16, 100])
def test_prompts_longer_than_a_chunk(case: Case, chunk: int) -> None:
    driver = case.drive(chunk=chunk)
    prompts = [case.prompt(130), case.prompt(51), case.prompt(16)]
    for number, prompt in enumerate(prompts):
        driver.submit(str(number), prompt)
    driver.run()
    assert [driver.tokens[str(n)] for n in range(3)] == [case.expected(p) for p in prompts]


def test_a_prefix_that_is_known_in_part_or_in_full(case: Case) -> None:
    """Whole pages are shared, and the beginning of one more is copied where that saves enough."""
    driver = case.drive()
    first = case.prompt(120)
    answer = driver.ask("first", first, 24)
    questions = {
        "full": first,
        "next turn": first + answer + case.prompt(20),
        "partial": first[: 2 * PAGE_SIZE + 11] + case.prompt(30),
        "less than a page": first[:20] + case.prompt(30),
        "not worth a copy": first[: PAGE_SIZE + 2] + case.prompt(30),
        "none": case.prompt(50),
        "one token more": [*first, 5],
    }
    for name, prompt in questions.items():
        assert driver.ask(name, prompt) == case.expected(prompt), name
    assert {name: driver.finished[name].usage.cached_tokens for name in questions} == {
        "full": 119,
        "next turn": 143,
        "partial": 2 * PAGE_SIZE + 11,
        "less than a page": 20,
        "not worth a copy": PAGE_SIZE,
        "none": 0,
        "one token more": 120,
    }


def test_a_prefix_taken_from_a_running_sequence(case: Case) -> None:
    driver = case.drive()
    first = case.prompt(90)
    driver.submit("running", first, 40)
    driver.run(until=lambda: len(driver.tokens["running"]) >= 10)
    second = first[:80] + case.prompt(15)
    driver.submit("sharing", second)
    driver.run()
    assert driver.finished["sharing"].usage.cached_tokens == 80
    assert driver.tokens["sharing"] == case.expected(second)
    assert driver.tokens["running"] == case.expected(first, 40)


def test_conversations_that_arrive_together_compute_their_common_beginning_once(case: Case) -> None:
    driver = case.drive(chunk=16)
    head = case.prompt(PAGE_SIZE - 1)
    prompts = {str(number): head + case.prompt(20) for number in range(6)}
    for name, prompt in prompts.items():
        driver.submit(name, prompt)
    driver.run()
    assert driver.tokens == {name: case.expected(prompt) for name, prompt in prompts.items()}
    cached = sorted(driver.finished[name].usage.cached_tokens for name in prompts)
    assert cached[2:] == [len(head)] * 4, "the first step has room for two of them"


def test_a_copy_is_made_again_after_a_step_that_failed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory ends in the step that begins with the copy, and the sequence copied from is cancelled meanwhile."""
    driver = case.drive()
    head = case.prompt(PAGE_SIZE + 20)
    driver.submit("first", head + case.prompt(20), 40)
    driver.run(until=lambda: len(driver.tokens["first"]) >= 3)
    second = head + case.prompt(9)
    driver.submit("second", second, 30)
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "forward", _out_of_memory)
        patch.setattr(DecodeGraphs, "run", _out_of_memory)
        driver.runner.step()
    driver.runner.cancel("first")
    for number in range(3):  # they take the pages that the first one gave back
        driver.submit(f"other {number}", case.prompt(50))
    driver.run()
    assert driver.tokens["second"] == case.expected(second, 30)
    assert driver.finished["second"].usage.cached_tokens == len(head)


def _out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("no memory for this step")


def test_after_eviction(case: Case) -> None:
    driver = case.drive(kv_tokens=5 * PAGE_SIZE)
    prompts = [case.prompt(100) for _ in range(5)]
    for number, prompt in enumerate([*prompts, *prompts]):
        assert driver.ask(str(number), prompt) == case.expected(prompt)


def test_sequences_cancelled_around_it(case: Case) -> None:
    driver = case.drive(chunk=32)
    kept = {f"kept {n}": case.prompt(20 + 31 * n) for n in range(4)}
    for number, (name, prompt) in enumerate(kept.items()):
        driver.submit(f"gone {number}", case.prompt(60 + number), 30)
        driver.submit(name, prompt, 25)
    driver.run(until=lambda: len(driver.tokens["kept 0"]) >= 3)
    for number in range(4):
        driver.runner.cancel(f"gone {number}")
        driver.run(until=lambda n=number: len(driver.tokens["kept 0"]) >= 5 + 2 * n)  # type: ignore[misc]  # mypy infers no type of a lambda with a default
    driver.run()
    assert {name: driver.tokens[name] for name in kept} == {n: case.expected(p, 25) for n, p in kept.items()}


def test_preempted_sequences_are_computed_again(case: Case) -> None:
    """Four answers grow in a pool that holds one of them whole and a half: one is preempted twice."""
    driver = case.drive(kv_tokens=8 * PAGE_SIZE, max_sequences=4, chunk=8)
    prompts = {str(n): case.prompt(20 + 3 * n) for n in range(4)}
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 120)
    sequences = sequences_of(driver.scheduler)
    driver.run()
    assert [s.preemptions for s in sequences] == [0, 1, 1, 2], "this test is about preemption"
    assert {name: driver.tokens[name] for name in prompts} == {n: case.expected(p, 120) for n, p in prompts.items()}


def test_preempted_in_the_middle_of_its_prompt(case: Case) -> None:
    driver = case.drive(kv_tokens=9 * PAGE_SIZE, chunk=2)
    old, young = case.prompt(90), case.prompt(130)
    driver.submit("old", old, 60)
    driver.submit("young", young)
    (sequence,) = [s for s in sequences_of(driver.scheduler) if s.id == "young"]
    driver.run(until=lambda: len(driver.tokens["old"]) > 0 and sequence.computed > 0)
    driver.run(until=lambda: sequence.preemptions > 0)
    assert driver.tokens["young"] == [], "this test is about a prompt that is not yet computed"
    driver.run()
    assert driver.tokens == {"old": case.expected(old, 60), "young": case.expected(young)}
    assert [driver.progress[name].preemptions for name in ("old", "young")] == [0, 1]


def test_a_prefix_that_is_evicted_while_another_waits_for_it(case: Case) -> None:
    driver = case.drive(kv_tokens=8 * PAGE_SIZE)
    head = case.prompt(3 * PAGE_SIZE)
    driver.ask("first", head + case.prompt(5))
    large, waiting = case.prompt(4 * PAGE_SIZE + 2), head + case.prompt(60)
    driver.submit("large", large, 90)
    driver.run(until=lambda: len(driver.tokens["large"]) > 0)
    driver.submit("waiting", waiting)
    evicted = driver.scheduler.kv.pool.evicted
    driver.run(until=lambda: driver.scheduler.kv.pool.evicted > evicted)
    assert driver.scheduler.waits_for_memory
    driver.run()
    assert driver.tokens["large"] == case.expected(large, 90)
    assert driver.tokens["waiting"] == case.expected(waiting)
    assert driver.finished["waiting"].usage.cached_tokens < 3 * PAGE_SIZE


def test_a_seed_repeats_across_a_preemption(case: Case) -> None:
    params = SamplingParams(seed=5, temperature=1.5, top_k=40)
    prompt = case.prompt(22)
    expected = case.drive().ask("alone", prompt, 60, sampling=params)
    driver = case.drive(kv_tokens=8 * PAGE_SIZE, max_sequences=4)
    for number in range(3):
        driver.submit(f"other {number}", case.prompt(20 + number), 60)
    driver.submit("preempted", prompt, 60, sampling=params)
    (sequence,) = [s for s in sequences_of(driver.scheduler) if s.id == "preempted"]
    driver.run()
    assert sequence.preemptions > 0, "this test is about preemption"
    assert driver.tokens["preempted"] == expected


def test_pages_shared_with_a_sequence_that_is_then_cancelled(case: Case) -> None:
    driver = case.drive()
    head = case.prompt(3 * PAGE_SIZE)
    driver.submit("first", head + case.prompt(9), 40)
    driver.run(until=lambda: len(driver.tokens["first"]) >= 3)
    second = head + case.prompt(20)
    driver.submit("second", second, 30)
    driver.run(until=lambda: len(driver.tokens["second"]) >= 3)
    assert driver.scheduler.kv.pool.shared == 3
    driver.runner.cancel("first")
    driver.run()
    assert driver.tokens["second"] == case.expected(second, 30)
    assert driver.finished["second"].usage.cached_tokens == 3 * PAGE_SIZE


@pytest.mark.parametrize("bound", ["BLOCK_SCORES", "BLOCK_NUMBERS"])
def test_a_context_is_read_in_blocks(case: Case, bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, bound, 600)
    driver = case.drive(chunk=48)
    prompts = {"long": case.prompt(300), "short": case.prompt(40)}
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 10)
    driver.run()
    assert driver.tokens == {name: case.expected(prompt, 10) for name, prompt in prompts.items()}


def test_sequences_of_very_different_lengths_share_a_step(case: Case) -> None:
    driver = case.drive()
    prompts = {"long": case.prompt(900), "middle": case.prompt(300), "short": case.prompt(7)}
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 20)
    driver.run()
    assert driver.tokens == {name: case.expected(prompt, 20) for name, prompt in prompts.items()}


def test_random_traffic(case: Case) -> None:
    """Arrivals, cancellations, shared prefixes and a tight cache, all at once."""
    dice = random.Random(11)
    driver = case.drive(kv_tokens=20 * PAGE_SIZE, max_sequences=6, chunk=48)
    heads = [case.prompt(60), case.prompt(150)]
    prompts: dict[str, list[int]] = {}
    for number in range(30):
        name = str(number)
        prompts[name] = dice.choice(heads)[: dice.randrange(20, 150)] + case.prompt(dice.randrange(1, 60))
        driver.submit(name, prompts[name], 10)
        for _ in range(dice.randrange(4)):
            driver.runner.step()
        if dice.random() < 0.25:
            driver.runner.cancel(name)
            del prompts[name]
    driver.run()
    for name, prompt in prompts.items():
        assert driver.tokens[name] == case.expected(prompt, 10), name
