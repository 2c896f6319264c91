"""The runner over two simulated GPUs: the tokens of one device, and one hidden state across per step."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from app.contract.options import Cleanup
from app.contract.telemetry import CleanedUp, StepDone
from app.engine.attention.backends.on_gpu import TritonHeads, TritonLatents
from app.engine.attention.backends.triton import head_rotation, heads, latents, rotation, splits
from app.engine.execution.executor import Executor
from app.engine.execution.graphs.decode_graphs import DecodeGraphs
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.shape import LatentShape, kv_shape
from tests.support.driving import Driver, drive, reference, sequences_of
from tests.support.simgpu import SimMemory, SimTensor, crossings, gpus
from tests.support.split import split
from tests.support.tiny import tiny_deepseek, tiny_llama

FAMILIES: dict[str, Callable[[], Any]] = {"llama": tiny_llama, "deepseek": lambda: tiny_deepseek(yarn=True)}

PROMPTS = {
    "long": list(range(10, 150)),
    "short": [5, 6, 7],
    "shares a prefix": [*range(10, 90), 3, 3, 3],
    "one token": [9],
}


@pytest.fixture(params=list(FAMILIES))
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return FAMILIES[request.param]


@pytest.fixture(params=["llama", "deepseek"])
def make_small(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """A layer on each GPU and few heads: the interpreter takes milliseconds for each head of each row."""
    makers: dict[str, Callable[[], Any]] = {
        "llama": lambda: tiny_llama(num_hidden_layers=2, num_attention_heads=4),
        "deepseek": lambda: tiny_deepseek(
            yarn=True, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2
        ),
    }
    return makers[request.param]


def over_two(model: Any, **settings: Any) -> Driver:
    split(model, model.config.num_hidden_layers // 2)
    return drive(model, chunk=48, **settings)


def test_the_same_tokens_as_on_one_device(make: Callable[[], Any]) -> None:
    stock = make()
    expected = {name: reference(stock, prompt) for name, prompt in PROMPTS.items()}
    driver = over_two(make())
    for name in ("long", "short"):
        driver.submit(name, PROMPTS[name])
    driver.run(until=lambda: len(driver.tokens["short"]) >= 4)
    for name in ("shares a prefix", "one token"):
        driver.submit(name, PROMPTS[name])
    driver.run()
    assert driver.tokens == expected
    assert driver.finished["shares a prefix"].usage.cached_tokens == 80


@pytest.mark.parametrize("boundary", [0, 4])
def test_a_gpu_with_the_embedding_or_the_head_alone_computes_too(make: Callable[[], Any], boundary: int) -> None:
    expected = reference(make(), PROMPTS["long"])
    model = make()
    split(model, boundary)
    driver = drive(model, chunk=48)
    assert driver.ask("a", PROMPTS["long"]) == expected
    assert driver.runner._executor.devices == list(gpus()), "else steps would be captured for one of them"


def launched(kernel: Callable[..., torch.Tensor | None]) -> Callable[..., torch.Tensor | None]:
    """A Triton kernel, interpreted over the memory of one simulated GPU."""

    def launch(*positional: Any, **named: Any) -> torch.Tensor | None:
        (device,) = {each.device for each in (*positional, *named.values()) if isinstance(each, torch.Tensor)}
        result = kernel(*map(_memory_of, positional), **{name: _memory_of(each) for name, each in named.items()})
        return None if result is None else SimTensor(result, device)

    return launch


def _memory_of(argument: Any) -> Any:
    return argument.elem if isinstance(argument, SimTensor) else argument


def triton_backend(shape: Any) -> TritonLatents | TritonHeads:
    attend = cast(
        "Any", SimpleNamespace(attend=launched((latents if isinstance(shape, LatentShape) else heads).attend))
    )
    rotations = rotation if isinstance(shape, LatentShape) else head_rotation
    rotate = cast("Any", SimpleNamespace(rotate_and_store=launched(rotations.rotate_and_store)))
    if not isinstance(shape, LatentShape):
        return TritonHeads(shape, PAGE_SIZE, torch.float32, attend, rotate)
    return TritonLatents(shape, PAGE_SIZE, torch.float32, attend, rotate)


def over_two_with_kernels(model: Any) -> Driver:
    driver = over_two(model)
    decoder = driver.runner._executor._decoder
    decoder.backend = triton_backend(kv_shape(model.config.to_dict()))
    driver.runner._executor = Executor(decoder, decoder.new_cache(driver.scheduler.kv.pool.count))
    return driver


@pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels take no CPU tensors")
def test_tritons_kernels_give_the_same_tokens(make_small: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each layer takes the plan of its own device."""
    monkeypatch.setattr(splits, "PROGRAMS", 1)  # the interpreter runs them one after the other
    stock = make_small()
    expected = {name: reference(stock, prompt, 5) for name, prompt in PROMPTS.items()}
    driver = over_two_with_kernels(make_small())
    for name, prompt in PROMPTS.items():
        driver.submit(name, prompt, 5)
    driver.run()
    assert driver.tokens == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels take no CPU tensors")
def test_a_captured_step_is_a_replay_on_each_gpu_and_one_copy_between(
    make_small: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A "captured" part is computed again at each replay. Its tokens are those of one device."""
    monkeypatch.setattr(splits, "PROGRAMS", 1)  # the interpreter runs them one after the other
    stock = make_small()
    names = ("short", "one token")
    expected = {name: reference(stock, PROMPTS[name], 6) for name in names}
    driver = over_two_with_kernels(make_small())
    executor, replayed = driver.runner._executor, list[torch.device]()

    def captures(gpu: torch.device) -> Any:
        def capture(compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
            def replay() -> torch.Tensor:
                replayed.append(gpu)
                return compute()

            return replay

        return capture

    executor.graphs = DecodeGraphs(executor._decoder, executor._cache, 2, {gpu: captures(gpu) for gpu in gpus()})
    assert executor.graphs.sizes == [1, 2]
    for name in names:
        driver.submit(name, PROMPTS[name], 6)
    driver.run(until=lambda: all(driver.tokens[name] for name in names))
    replayed.clear()
    steps = len(expected["short"]) - sequences_of(driver.scheduler)[0].generated
    with crossings() as recorded:
        driver.run()
    assert driver.tokens == expected
    assert replayed == [*gpus()] * steps
    assert sum(crossing.between_gpus for crossing in recorded) == steps
    assert sum(crossing.target.type == "cpu" for crossing in recorded) == steps, "one wait a step, for its tokens"


def test_each_layers_cache_lies_on_its_own_device(make: Callable[[], Any]) -> None:
    driver = over_two(make())
    driver.ask("a", PROMPTS["long"])
    storages = [driver.runner._executor._cache.storage(layer) for layer in range(4)]
    devices = [storage.device if isinstance(storage, torch.Tensor) else storage.keys.device for storage in storages]
    first, second = gpus()
    assert devices == [first, first, second, second]


def test_one_hidden_state_crosses_per_step_and_nothing_else(make: Callable[[], Any]) -> None:
    driver = over_two(make())
    with crossings() as recorded:
        for name, prompt in PROMPTS.items():
            driver.submit(name, prompt)
        driver.run()
    steps = [event for event in driver.heard.events if isinstance(event, StepDone)]
    between = [crossing for crossing in recorded if crossing.between_gpus]
    hidden = next(driver.runner._executor._decoder._embed.parameters()).shape[1]
    assert [crossing.shape for crossing in between] == [(1, step.tokens, hidden) for step in steps]


PARTS = {1: 2, 40: 3, 100: 8}
"""By the rows of a step: uneven, and some cut between pages and some within."""


def test_in_parts_the_tokens_are_the_same(make: Callable[[], Any]) -> None:
    """Also beside sequences that decode, behind a known prefix, and with the scores of a prompt."""
    stock = make()
    expected = {name: reference(stock, prompt) for name, prompt in PROMPTS.items()}
    driver = over_two(make())
    driver.runner._executor._decoder.parts = PARTS
    driver.submit("short", PROMPTS["short"])
    driver.run(until=lambda: len(driver.tokens["short"]) >= 2)
    driver.submit("long", PROMPTS["long"])
    driver.run(until=lambda: bool(driver.tokens["long"]))
    driver.submit("shares a prefix", PROMPTS["shares a prefix"])
    driver.submit("one token", PROMPTS["one token"], prompt_logprobs=0)
    driver.run()
    assert driver.tokens == expected
    assert driver.finished["shares a prefix"].usage.cached_tokens == 80


def test_the_host_waits_for_no_part(make: Callable[[], Any]) -> None:
    """Else the first GPU would have nothing to compute while the second one works."""
    driver = over_two(make())
    driver.runner._executor._decoder.parts = {40: 4}
    driver.submit("long", PROMPTS["long"][:100])
    with crossings() as recorded:
        driver.runner.step()
    hidden = [number for number, crossing in enumerate(recorded) if crossing.between_gpus]
    assert [recorded[number].shape[1] for number in hidden] == [25, 25, 25, 25]
    waits = [number for number, crossing in enumerate(recorded) if crossing.target.type == "cpu"]
    assert min(waits) > max(hidden)


def test_both_gpus_are_cleaned_and_read(make: Callable[[], Any]) -> None:
    memories = [SimMemory(device) for device in gpus()]
    driver = over_two(make(), cleanup=Cleanup.IDLE, memories=memories)
    driver.ask("a", PROMPTS["short"])
    driver.run()
    (cleaned,) = [event for event in driver.heard.events if isinstance(event, CleanedUp)]
    assert [device.device for device in cleaned.devices] == [str(device) for device in gpus()]
    assert all(device.allocated > 0 for device in cleaned.devices)


@pytest.fixture(autouse=True)
def _inference() -> Any:
    with torch.inference_mode():
        yield
