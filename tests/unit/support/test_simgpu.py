"""The simulated GPUs keep what a test relies on: real numbers, shared views, errors on mixed devices, crossings.

A failure here after an update of torch says which of its experimental parts moved.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from tests.support.simgpu import Crossing, SimMemory, allocated, crossings, gpus
from tests.support.split import split, split_with_hooks
from tests.support.tiny import VOCABULARY, tiny_deepseek, tiny_llama

GPU0, GPU1 = gpus()
CPU = torch.device("cpu")


@pytest.fixture(params=[torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"], autouse=True)
def mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """The engine runs in inference mode, where torch hands over other operations than elsewhere."""
    with request.param():
        yield


def rand(*shape: int, device: torch.device = CPU) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(device)


MAKERS: dict[str, Callable[[torch.device], Tensor]] = {
    "zeros": lambda device: torch.zeros(2, 3, device=device),
    "ones": lambda device: torch.ones(2, device=device, dtype=torch.bfloat16),
    "full": lambda device: torch.full((2,), -torch.inf, device=device),
    "arange": lambda device: torch.arange(7, device=device),
    "arange with a start": lambda device: torch.arange(2, 7, device=device),
    "arange with a step": lambda device: torch.arange(2, 9, 3, device=device),
    "eye": lambda device: torch.eye(3, device=device),
    "linspace": lambda device: torch.linspace(0, 1, 5, device=device),
    "tensor": lambda device: torch.tensor([[1, 2]], device=device),
    "to": lambda device: rand(3, 2).to(device),
    "zeros_like": lambda device: torch.zeros_like(rand(3, device=device)),
    "new_ones": lambda device: rand(3, device=device).new_ones(2),
}


@pytest.mark.parametrize("device", [GPU0, GPU1], ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_tensors_are_made_on_the_device_that_was_named(name: str, device: torch.device) -> None:
    made = MAKERS[name](device)
    assert made.device == device
    assert torch.equal(made.cpu(), MAKERS[name](CPU))


OPERATIONS: dict[str, Callable[[torch.device], Any]] = {
    "attention": lambda d: F.scaled_dot_product_attention(rand(1, 2, 4, 8, device=d), *two(d), is_causal=True),
    "attention with a mask": lambda d: F.scaled_dot_product_attention(
        rand(1, 2, 4, 8, device=d), *two(d), attn_mask=torch.ones(4, 4, device=d).bool().tril()
    ),
    "einsum": lambda d: torch.einsum("abc,dc->abd", rand(2, 3, 4, device=d), rand(5, 4, device=d)),
    "bmm": lambda d: torch.bmm(rand(2, 3, 4, device=d), rand(2, 4, 5, device=d)),
    "embedding": lambda d: F.embedding(torch.tensor([1, 0]).to(d), rand(3, 4, device=d)),
    "topk": lambda d: torch.cat(rand(9, device=d).topk(3)),
    "sort": lambda d: torch.cat(rand(9, device=d).sort(descending=True)),
    "cumsum and search": lambda d: torch.searchsorted(rand(9, device=d).cumsum(0), rand(2, device=d)),
    "gather": lambda d: rand(2, 3, device=d).gather(1, torch.tensor([[0], [2]]).to(d)),
    "scatter": lambda d: torch.zeros(2, 3, device=d).scatter(1, torch.tensor([[0], [2]]).to(d), 1.0),
    "index_select": lambda d: rand(4, 3, device=d).index_select(0, torch.tensor([2, 0]).to(d)),
    "multinomial": lambda d: torch.multinomial(rand(9, device=d), 3, generator=torch.Generator().manual_seed(5)),
    "complex": lambda d: torch.view_as_real(torch.view_as_complex(rand(3, 2, device=d)) * rand(3, device=d)),
    "in place": lambda d: rand(3, device=d).mul_(2.0).add_(rand(3, device=d)).clamp_(0.5),
    "histogram": lambda d: torch.histc(torch.tensor([0, 1, 1]).to(d).float(), bins=2, min=0, max=1),
}


def two(device: torch.device) -> tuple[Tensor, Tensor]:
    return rand(1, 2, 4, 8, device=device), rand(1, 2, 4, 8, device=device) + 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_numbers_are_those_of_the_cpu_and_stay_on_the_device(name: str) -> None:
    got = OPERATIONS[name](GPU1)
    assert got.device == GPU1
    torch.testing.assert_close(got.cpu(), OPERATIONS[name](CPU))  # attention may take another kernel


def slots_written(device: torch.device) -> Tensor:
    """A KV buffer as the engine treats it: parts written through views of views, rows by index."""
    buffer = torch.zeros(4, 2, 8, 3, device=device)
    view = buffer[:3, :, :6]
    view[1, :, 2:4] = rand(2, 2, 3, device=device)
    buffer[3].narrow(1, 0, 5).copy_(view[1, :, 1:6])
    rows, positions = torch.tensor([0, 2]).to(device), torch.tensor([5, 0]).to(device)
    buffer[rows, :, positions] = rand(2, 2, 3, device=device)
    buffer.index_copy_(0, rows[:1], buffer[3:].clone())
    buffer[0, 0, 0] += 1.0
    return buffer


def test_writing_into_a_view_writes_into_its_base() -> None:
    got = slots_written(GPU0)
    assert got.device == GPU0
    assert torch.equal(got.cpu(), slots_written(CPU))
    base = torch.zeros(3, device=GPU0)
    same = base.fill_(1.0)
    assert same is base
    base[1:].add_(1.0)
    assert same.tolist() == [1.0, 2.0, 2.0]


def test_weights_made_before_inference_mode_can_be_viewed_in_it() -> None:
    with torch.inference_mode(mode=False):
        weight = rand(2, 3, device=GPU0)
    assert weight.transpose(0, 1).device == GPU0
    assert torch.equal(weight[1:].view(-1).cpu(), weight.cpu()[1])


MIXED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "add": lambda a, b: a + b,
    "matmul": lambda a, b: a @ b,
    "cat": lambda a, b: torch.cat((a, b)),
    "where": lambda a, b: torch.where(a > 0.5, a, b),
    "attention": lambda a, b: F.scaled_dot_product_attention(a[None], b[None], b[None]),
    "in place": lambda a, b: a.add_(b),
    "write by index": lambda a, b: a.index_put_((torch.tensor([0]).to(a.device),), b[:1]),
    "gather": lambda a, b: a.gather(0, b.long()),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("other", [GPU1, CPU], ids=str)
def test_tensors_of_two_devices_do_not_mix(name: str, other: torch.device) -> None:
    MIXED[name](rand(3, 3, device=GPU0), rand(3, 3, device=GPU0))
    with pytest.raises(RuntimeError, match="same device"):
        MIXED[name](rand(3, 3, device=GPU0), rand(3, 3, device=other))


def test_numbers_and_cpu_indices_go_with_every_gpu() -> None:
    tensor = rand(3, device=GPU0)
    assert (tensor * torch.tensor(2.0)).device == GPU0
    assert tensor[torch.tensor([2, 0])].tolist() == [tensor[2].item(), tensor[0].item()]
    with pytest.raises(RuntimeError, match="same device"):
        tensor * torch.tensor(2.0).to(GPU1)
    with pytest.raises(RuntimeError, match="same device"):
        tensor[torch.tensor([2, 0]).to(GPU1)]


def test_copies_between_devices_are_recorded_and_others_are_not() -> None:
    tensor = rand(2, 3, device=GPU0)
    with crossings() as seen:
        tensor.to(GPU0)
        tensor.to(torch.bfloat16)
        assert seen == []
        there = tensor.to(GPU1)
        torch.zeros(3, device=GPU0).copy_(there[0])
        tensor.cpu()
    tensor.to(GPU1)  # after the end
    assert seen == [Crossing(GPU0, GPU1, (2, 3)), Crossing(GPU1, GPU0, (3,)), Crossing(GPU0, CPU, (2, 3))]
    assert [it.between_gpus for it in seen] == [True, True, False]


def test_a_copy_says_whether_the_host_waits_for_it() -> None:
    tensor = torch.rand(3)
    with crossings() as seen:
        tensor.to(GPU0)
        there = tensor.to(GPU0, non_blocking=True)
        there.copy_(tensor, non_blocking=True)
        there.copy_(tensor)
        torch.tensor([1, 2], device=GPU0)
    assert [it.blocking for it in seen] == [True, False, False, True, True]


def test_reads_of_numbers_are_recorded() -> None:
    tensor = rand(2, 3, device=GPU1)
    with crossings() as seen:
        tensor.tolist()
        tensor.sum().item()
    assert seen == [Crossing(GPU1, CPU, (2, 3)), Crossing(GPU1, CPU, ())]


def test_every_thread_sees_the_devices() -> None:
    made: list[Tensor] = []

    def work() -> None:
        with torch.inference_mode():
            made.append(torch.zeros(2, device=GPU1) + rand(2, device=GPU1))
            made.append(torch.tensor([1.0, 2.0], device=GPU1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [tensor.device for tensor in made] == [GPU1, GPU1]


def test_memory_is_counted_once_per_buffer_and_given_back() -> None:
    gc.collect()  # what earlier tests left
    before = allocated(GPU0), allocated(GPU1)
    buffer = torch.zeros(1000, device=GPU0)
    view = buffer[10:]
    assert allocated(GPU0) - before[0] == 4000
    assert allocated(GPU1) == before[1]
    assert SimMemory(GPU0).read().allocated == allocated(GPU0)
    del buffer
    assert allocated(GPU0) - before[0] == 4000, "a view keeps its buffer alive"
    del view
    assert allocated(GPU0) == before[0]


@pytest.mark.parametrize("make", [tiny_deepseek, tiny_llama])
@pytest.mark.parametrize("place", [split_with_hooks, split])
def test_a_split_model_gives_the_logits_of_one_device(
    make: Callable[[], PreTrainedModel], place: Callable[[Any, int], dict[str, torch.device]]
) -> None:
    ids = torch.randint(0, VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(1))
    want = prefill_and_step(make(), ids)
    model = make()
    device_map = place(model, 2)
    assert {name for name, device in device_map.items() if device == GPU1} == {
        "model.layers.2",
        "model.layers.3",
        "model.norm",
        "lm_head",
    }
    if place is split:  # without hooks nobody moves the hidden state, and that must not go unseen
        with pytest.raises(RuntimeError, match="same device"):
            prefill_and_step(model, ids.to(GPU0))
        return
    with crossings() as seen:
        got = prefill_and_step(model, ids.to(GPU0))
    assert got.device == GPU1
    torch.testing.assert_close(got.cpu(), want)
    hidden = [it for it in seen if it == Crossing(GPU0, GPU1, (2, 1, model.config.hidden_size))]
    assert len(hidden) == 1, "the hidden state of the one step after the prefill"


def prefill_and_step(model: PreTrainedModel, ids: Tensor) -> Tensor:
    cache = DynamicCache(config=model.config)
    model(input_ids=ids[:, :8], past_key_values=cache)
    logits: Tensor = model(input_ids=ids[:, 8:], past_key_values=cache).logits
    return logits
