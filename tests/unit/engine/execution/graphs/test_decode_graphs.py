"""Steps at fixed addresses give the tokens of eager ones. Here their kernels run on CPU tensors and a "captured" step
is computed again at each replay: all but the capture itself, which needs a GPU."""

import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from app.engine.attention.backends.on_gpu import TritonHeads, TritonLatents
from app.engine.attention.backends.triton import head_rotation, heads, latents, rotation, splits
from app.engine.execution import few_operations
from app.engine.execution.executor import Executor
from app.engine.execution.few_operations import use_few_operations
from app.engine.execution.graphs import decode_graphs
from app.engine.execution.graphs.decode_graphs import DecodeGraphs, capture_steps, sizes
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.shape import LatentShape, kv_shape
from app.engine.layers.experts import OURS, ExpertsPolicy
from app.engine.layers.triton_experts import experts_forward
from tests.support.driving import Driver, drive, reference
from tests.support.tiny import VOCABULARY, tiny_deepseek, tiny_llama

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU captures steps: see test_exactness.py")

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: tiny_llama(num_hidden_layers=2),
    "deepseek": lambda: tiny_deepseek(yarn=True, num_hidden_layers=2),
}
MOST = 6
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _inference(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(splits, "PROGRAMS", 1)  # the interpreter runs them one after the other
    with torch.inference_mode():
        yield


@pytest.fixture(params=list(FAMILIES))
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return FAMILIES[request.param]


class Replays:
    """Counts replays by their number of rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def capture(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        def replay() -> torch.Tensor:
            logits = compute()
            self.rows.append(len(logits))
            return logits

        return replay


def with_kernels(model: Any, replays: Replays, *, most: int = MOST, few: bool = False, **settings: Any) -> Driver:
    """A driver whose decode steps run on the kernels for GPUs, at fixed addresses."""
    driver = drive(model, max_sequences=most, chunk=48, **settings)
    decoder = driver.runner._executor._decoder
    shape = kv_shape(model.config.to_dict())
    decoder.backend = (
        TritonLatents(shape, PAGE_SIZE, torch.float32, latents, rotation)
        if isinstance(shape, LatentShape)
        else TritonHeads(shape, PAGE_SIZE, torch.float32, heads, head_rotation)
    )
    if few:
        if isinstance(shape, LatentShape):
            ALL_EXPERTS_FUNCTIONS.register(OURS, experts_forward)  # as the start-up does on a GPU
            decoder.experts = ExpertsPolicy(model.config, {1: {OURS: 1.0}, 4096: {"eager": 1.0}})
        assert use_few_operations(decoder) == len(model.model.layers)
    cache = decoder.new_cache(driver.scheduler.kv.pool.count)
    graphs = DecodeGraphs(decoder, cache, most, {CPU: replays.capture})
    replays.rows.clear()
    driver.runner._executor = Executor(decoder, cache, graphs)
    return driver


def test_the_same_tokens_as_generate_for_every_number_of_rows(make: Callable[[], Any]) -> None:
    dice = random.Random(3)
    prompts = {str(n): [dice.randrange(3, VOCABULARY) for _ in range(n)] for n in (1, 31, 32, 33, 70)}
    stock = make()
    expected = {name: reference(stock, prompt, 5 + int(name) % 5) for name, prompt in prompts.items()}
    replays = Replays()
    driver = with_kernels(make(), replays)
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 5 + int(name) % 5)
    driver.run()
    assert driver.tokens == expected
    assert {MOST} < set(replays.rows) <= set(sizes(MOST))


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny_llama(num_hidden_layers=2),
        lambda: tiny_deepseek(
            yarn=True,
            num_hidden_layers=2,
            n_routed_experts=4,
            num_experts_per_tok=2,
            num_attention_heads=2,
            num_key_value_heads=2,
        ),
    ],
    ids=["llama", "deepseek"],
)
def test_layers_in_few_operations_give_the_same_tokens(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(few_operations, "TRIED", (1,))
    prompts = {"a": list(range(5, 35)), "b": [7], "c": list(range(99, 108))}
    stock = make()
    expected = {name: reference(stock, prompt, 4) for name, prompt in prompts.items()}
    replays = Replays()
    driver = with_kernels(make(), replays, most=4, few=True)
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 4)
    driver.run()
    assert driver.tokens == expected
    assert 4 in replays.rows


def test_unused_rows_write_to_no_page_of_a_sequence(make: Callable[[], Any]) -> None:
    """Every page but one belongs to the three sequences: a row astray would change an answer."""
    prompts = {"a": list(range(5, 45)), "b": list(range(60, 95)), "c": list(range(99, 160))}
    stock = make()
    expected = {name: reference(stock, prompt, 8) for name, prompt in prompts.items()}
    replays = Replays()
    driver = with_kernels(make(), replays, most=4, kv_tokens=8 * PAGE_SIZE)
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 8)
    driver.run()
    assert driver.tokens == expected
    assert 4 in replays.rows, "three rows in a step of four"


def test_preempted_sequences_come_back_with_other_pages(make: Callable[[], Any]) -> None:
    # Two pages each at first, and soon three, where there are eight for all: few steps of the slow interpreter.
    prompts = {str(n): [7 + n, *range(20, 20 + 2 * PAGE_SIZE - 5)] for n in range(3)}
    stock = make()
    expected = {name: reference(stock, prompt, 7) for name, prompt in prompts.items()}
    replays = Replays()
    driver = with_kernels(make(), replays, most=4, kv_tokens=8 * PAGE_SIZE)
    for name, prompt in prompts.items():
        driver.submit(name, prompt, 7)
    driver.run()
    assert driver.tokens == expected
    assert any(progress.preemptions for progress in driver.progress.values()), "this test is about preemption"
    assert replays.rows


def test_steps_with_prompt_chunks_or_long_contexts_are_eager() -> None:
    replays = Replays()
    model = tiny_llama(max_position_embeddings=2 * PAGE_SIZE, num_hidden_layers=1)
    expected = reference(
        tiny_llama(max_position_embeddings=2 * PAGE_SIZE, num_hidden_layers=1), list(range(5, 60)), 12
    )
    driver = with_kernels(model, replays, most=1)
    assert driver.ask("longer than the context", range(5, 60), 12) == expected
    assert len(replays.rows) == 2 * PAGE_SIZE - 55, "then its table is longer than those of captured steps"


def test_a_step_that_cannot_be_captured_stays_eager(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_compute: object) -> Any:
        raise RuntimeError("called a synchronizing CUDA operation")

    driver = with_kernels(tiny_llama(num_hidden_layers=1), Replays(), most=1)
    executor = driver.runner._executor
    graphs = DecodeGraphs(executor._decoder, executor._cache, MOST, {CPU: refuse})
    assert graphs.sizes == []
    assert {record.__dict__["rows"] for record in caplog.records} == set(sizes(MOST))
    driver.runner._executor = Executor(executor._decoder, executor._cache, graphs)
    assert driver.ask("eager", range(5, 30), 4) == reference(tiny_llama(num_hidden_layers=1), list(range(5, 30)), 4)


def test_a_captured_step_that_is_wrong_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    executor = with_kernels(tiny_llama(num_hidden_layers=1), Replays(), most=1).runner._executor
    graphs = DecodeGraphs(executor._decoder, executor._cache, 1, {CPU: lambda compute: lambda: compute() * 1.3})
    assert graphs.sizes == []
    assert "wrong" in caplog.text


def test_nothing_is_captured_without_a_gpu() -> None:
    executor = drive(tiny_llama()).runner._executor
    assert capture_steps(executor._decoder, executor._cache, 4) is None
    assert decode_graphs.graph_bytes(executor._decoder, 4) == {}


def test_nothing_is_captured_where_the_hidden_state_crosses_within_a_part(caplog: pytest.LogCaptureFixture) -> None:
    """A graph holds the work of one GPU."""
    apart = SimpleNamespace(
        devices=[torch.device("cuda", 0), torch.device("cuda", 1)],
        stands_apart=True,
        backend=SimpleNamespace(reads_tables=True),
    )
    with caplog.at_level("INFO"):
        assert capture_steps(cast("Any", apart), cast("Any", None), 4) is None
    assert "the head is not on the GPU" in caplog.records[-1].__dict__["reason"]


@pytest.mark.parametrize(("most", "expected"), [(1, [1]), (6, [1, 2, 4, 6]), (20, [1, 2, 4, 8, 16, 20])])
def test_sizes(most: int, expected: list[int]) -> None:
    assert sizes(most) == expected
