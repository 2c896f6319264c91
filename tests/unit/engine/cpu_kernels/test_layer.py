"""The compiled kernels compute what torch and transformers compute, in both types that they are made for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from app.engine.attention.backends.heads import HeadsBackend
from app.engine.cpu_kernels.errors import KernelError
from app.engine.cpu_kernels.layer import LayerKernels, kernels_for
from app.engine.cpu_kernels.shape import Shape
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.shape import HeadsShape
from app.engine.layers.llama import fuse
from tests.support.tiny import tiny_llama

CPU = torch.device("cpu")
HEADS, KEY_HEADS, DIM, WIDTH, INNER = 6, 2, 32, 96, 160
DTYPES = [torch.float32, torch.bfloat16]


def kernels(dtype: torch.dtype) -> LayerKernels:
    name = str(dtype).removeprefix("torch.")
    return kernels_for(Shape(name, HEADS, KEY_HEADS, DIM, 0.2, WIDTH, INNER, 1e-5, PAGE_SIZE))


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
def test_every_row_attends_to_its_own_pages_and_stores_its_own_keys(dtype: torch.dtype) -> None:
    """Two sequences that decode, in scattered pages, and a chunk of three tokens at the start of a third."""
    tables = torch.tensor([[7, 2] + [7] * 8, [9, 0, 4, 11, 3, 8, 1, 10, 5, 12], [6] * 10])
    rows = torch.tensor(
        [[0, 2 * PAGE_SIZE + 8, 40, 41], [1, 12 * PAGE_SIZE + 11, 299, 300]]
        + [[2, 6 * PAGE_SIZE + n, n, n + 1] for n in range(3)]
    )
    backend = HeadsBackend(HeadsShape(KEY_HEADS, DIM), PAGE_SIZE, dtype)
    pages = backend.allocate(14, CPU)
    both = (pages.keys, pages.values)
    for buffer in both:
        buffer.fill_(torch.nan)  # what nobody wrote is never read
    for table, length in zip(tables.tolist(), (40, 299, 0), strict=True):
        for position in range(length):
            for buffer in both:
                buffer[table[position // PAGE_SIZE], :, position % PAGE_SIZE] = torch.randn(KEY_HEADS, DIM).to(dtype)
    before = [buffer.clone() for buffer in both]
    states = torch.randn(1, 5, (HEADS + 2 * KEY_HEADS) * DIM, dtype=dtype)
    angles = torch.rand(1, 5, DIM // 2).repeat(1, 1, 2) * 6
    rotary = (angles.cos().to(dtype), angles.sin().to(dtype))

    queries = kernels(dtype).rotate(states, rotary, rows, both)
    output = kernels(dtype).attend(queries, rows, tables, 300, both)

    parts = torch.split(states.float().view(1, 5, -1, DIM).transpose(1, 2), [HEADS, KEY_HEADS, KEY_HEADS], dim=1)
    cos, sin = (part.float() for part in rotary)
    expected_queries, keys = apply_rotary_pos_emb(parts[0], parts[1], cos, sin)
    near(queries, expected_queries[0].transpose(0, 1))
    for row, (_, slot, _, _) in enumerate(rows.tolist()):
        for buffer, old, new in zip(both, before, (keys, parts[2]), strict=True):
            page, place = slot // PAGE_SIZE, slot % PAGE_SIZE
            near(buffer[page, :, place], new[0, :, row])
            old[page, :, place] = buffer[page, :, place]
    for buffer, old in zip(both, before, strict=True):
        assert torch.equal(buffer.isnan(), old.isnan()), "nothing else was written"
        assert torch.equal(buffer.nan_to_num(), old.nan_to_num()), "nothing else was written"
    for row, (sequence, _, _, length) in enumerate(rows.tolist()):
        table = tables[sequence, : -(-length // PAGE_SIZE)]
        key, value = (buffer[table].transpose(0, 1).flatten(1, 2)[None, :, :length].float() for buffer in both)
        query = queries[row].float()[None, :, None]
        expected = scaled_dot_product_attention(query, key, value, scale=0.2, enable_gqa=True)
        near(output[row], expected[0, :, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_that_sees_a_wrong_key_is_no_number_and_no_other_row_changes(dtype: torch.dtype) -> None:
    """A finite answer would be a wrong one, and nobody would notice."""
    pages = torch.randn(2, 4, KEY_HEADS, PAGE_SIZE, DIM).to(dtype)
    queries = torch.randn(3, HEADS, DIM).to(dtype)
    rows = torch.tensor([[0, 40, 39, 40], [1, 70, 5, 6], [1, 70, 7, 8]])  # the second one ends before it
    tables = torch.tensor([[0, 1], [2, 3]])
    clean = kernels(dtype).attend(queries, rows, tables, 40, (pages[0], pages[1])).clone()
    for place in (0, 6, 7):
        keys = pages[0].clone()
        keys[2, :, place, 3] = torch.nan
        output = kernels(dtype).attend(queries, rows, tables, 40, (keys, pages[1]))
        sees = torch.tensor([False, place < 6, True])
        assert output[sees].isnan().all()
        assert torch.equal(output[~sees], clean[~sees])


def test_a_row_of_a_long_chunk_is_left_open() -> None:
    both = (torch.zeros(2, KEY_HEADS, PAGE_SIZE, DIM), torch.zeros(2, KEY_HEADS, PAGE_SIZE, DIM))
    rows = torch.tensor([[0, 5, 5, 0]])
    states = torch.randn(1, 1, (HEADS + 2 * KEY_HEADS) * DIM)
    queries = kernels(torch.float32).rotate(states, (torch.ones(1, 1, DIM), torch.zeros(1, 1, DIM)), rows, both)
    kernels(torch.float32).attend(queries, rows, torch.tensor([[0]]), 1, both)
    assert both[0][0, :, 5].any(), "its keys are stored all the same"


def test_a_type_without_kernels_and_a_foreign_openmp_leave_the_layers_as_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fuse(torch.nn.Module.to(tiny_llama(), torch.float16)) == 0
    kernels_for.cache_clear()
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch" / "__init__.py"))  # its libraries are beside it
    with pytest.raises(KernelError, match="libgomp"):
        kernels(torch.float32)
    assert fuse(tiny_llama()) == 0
    reasons = [getattr(record, "reason", "") for record in caplog.records]
    assert any("float16" in reason for reason in reasons)
    assert any("libgomp" in reason for reason in reasons)


@pytest.mark.parametrize(
    ("python", "reason"), [("/bin/false", "status 1"), ("/no/python", "did not run"), ("/bin/true", "not whole")]
)
def test_a_compiler_that_does_not_work_leaves_the_layers_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, python: str, reason: str
) -> None:
    kernels_for.cache_clear()
    monkeypatch.setattr("sys.executable", python)
    assert fuse(tiny_llama()) == 0
    assert reason in getattr(caplog.records[-1], "reason", "")
