"""The compiled kernels compute what torch and transformers compute, in both types that they are made for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from app.engine.kv.cache import SlotCache
from app.engine.kv.layout import Layout, Rows
from app.engine.layers.cpu_kernels.launch import KernelError
from app.engine.layers.cpu_kernels.layer import LayerKernels, Shape, kernels_for
from app.engine.layers.llama import fuse
from tests.support.tiny import tiny_llama

CPU = torch.device("cpu")
HEADS, KEY_HEADS, DIM, WIDTH, INNER = 6, 2, 32, 96, 160
DTYPES = [torch.float32, torch.bfloat16]


def kernels(dtype: torch.dtype) -> LayerKernels:
    return kernels_for(Shape(dtype, HEADS, KEY_HEADS, DIM, 0.2, WIDTH, INNER, 1e-5))


def near(found: Tensor, expected: Tensor) -> None:
    """`expected` is float32; what is stored in 16 bits is rounded once."""
    exact = found.dtype == torch.float32
    torch.testing.assert_close(found.float(), expected, rtol=1e-5 if exact else 8e-3, atol=2e-6 if exact else 1e-3)


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request: pytest.FixtureRequest) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("dtype", DTYPES)
def test_norm_and_gate_equal_torchs(dtype: torch.dtype) -> None:
    x, weight = torch.randn(1, 37, WIDTH, dtype=dtype), torch.rand(WIDTH, dtype=dtype)
    near(kernels(dtype).norm(x, weight), rms_norm(x.float(), (WIDTH,), weight.float(), 1e-5))
    both = torch.randn(1, 37, 2 * INNER, dtype=dtype) * 8
    both[0, 0, :4] = torch.tensor([-200.0, 200.0, -90.0, 0.0])  # where exp would leave float32
    gate, up = both.float().chunk(2, dim=-1)
    near(kernels(dtype).gate(both), silu(gate) * up)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_row_attends_to_its_own_slot_and_stores_its_own_keys(dtype: torch.dtype) -> None:
    # Rows: two sequences that decode on different shelves, and a chunk of three tokens at the start of a slot.
    table = torch.tensor([[0, 3, 40, 41], [1, 0, 299, 300], [0, 1, 0, 1], [0, 1, 1, 2], [0, 1, 2, 3]])
    cache = SlotCache(4096)
    cache.reserve({64: 4, 512: 1})
    cache.layouts = {CPU: Layout((), (), table[:, 2].unsqueeze(0), Rows(table, ((64, 41), (512, 300)), 300))}
    like = torch.empty(1, KEY_HEADS, 0, DIM, dtype=dtype)
    shelves = [cache.buffers(0, capacity, capacity, like) for capacity in (64, 512)]
    for buffer in (buffer for pair in shelves for buffer in pair):
        buffer.normal_()
    before = [[buffer.clone() for buffer in pair] for pair in shelves]
    states = torch.randn(1, 5, (HEADS + 2 * KEY_HEADS) * DIM, dtype=dtype)
    angles = torch.rand(1, 5, DIM // 2).repeat(1, 1, 2) * 6
    rotary = (angles.cos().to(dtype), angles.sin().to(dtype))

    output = kernels(dtype).attend(states, rotary, cache, 0).view(5, HEADS, DIM)

    parts = torch.split(states.float().view(1, 5, -1, DIM).transpose(1, 2), [HEADS, KEY_HEADS, KEY_HEADS], dim=1)
    cos, sin = (part.float() for part in rotary)
    queries, keys = apply_rotary_pos_emb(parts[0], parts[1], cos, sin)
    for row, (shelf, slot, position, _) in enumerate(table.tolist()):
        for buffer, old, new in zip(shelves[shelf], before[shelf], (keys, parts[2]), strict=True):
            near(buffer[slot, :, position], new[0, :, row])
            old[slot, :, position] = buffer[slot, :, position]
    for pair, olds in zip(shelves, before, strict=True):
        for buffer, old in zip(pair, olds, strict=True):
            assert torch.equal(buffer, old), "nothing else was written"
    for row, (shelf, slot, _, length) in enumerate(table.tolist()):
        key, value = (buffer[slot : slot + 1, :, :length].float() for buffer in shelves[shelf])
        query = queries[:, :, row : row + 1].to(dtype).float()
        expected = scaled_dot_product_attention(query, key, value, scale=0.2, enable_gqa=True)
        near(output[row], expected[0, :, 0])


def test_a_type_without_kernels_and_a_foreign_openmp_leave_the_layers_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fuse(torch.nn.Module.to(tiny_llama(), torch.float16)) == 0
    kernels_for.cache_clear()
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch" / "__init__.py"))  # its libraries lie beside it
    with pytest.raises(KernelError, match="libgomp"):
        kernels(torch.float32)
    assert fuse(tiny_llama()) == 0
    reasons = [getattr(record, "reason", "") for record in caplog.records]
    assert any("float16" in reason for reason in reasons)
    assert any("libgomp" in reason for reason in reasons)
