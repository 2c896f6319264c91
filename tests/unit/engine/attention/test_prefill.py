"""Which kernel computes prompts: flash-attn is used where it runs,
and what was asked for and cannot be had is said."""

import logging
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from app.contract.options import FlashAttn
from app.engine.attention import mla, prefill
from app.engine.attention.backends.partial import merge, weigh
from app.engine.attention.mla import AbsorbedAttention, absorb, use_kernels
from app.engine.attention.prefill import (
    PRODUCTS,
    TORCH_EFFICIENT,
    TORCH_FLASH,
    choose_kernel,
    flash_attn,
    settle_sdpa,
)
from app.engine.errors import LoadError
from app.engine.loading.startup import choose_attention
from tests.support.tiny import tiny_deepseek, tiny_llama

CUDA = torch.device("cuda", 0)
LIBRARY = """
import torch
__version__ = "9.9"
calls = []

def flash_attn_func(q, k, v, softmax_scale, causal, return_attn_probs):
    calls.append((tuple(q.shape), tuple(v.shape)))
    scores = torch.einsum("nqhd,nlhd->nhql", q, k) * softmax_scale
    queries, keys = scores.shape[2:]
    if causal:
        scores = scores.masked_fill(~torch.ones(queries, keys).tril(keys - queries).bool(), float("-inf"))
    return torch.einsum("nhql,nlhd->nqhd", scores.softmax(-1), v), scores.logsumexp(-1), None
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """A library of flash-attn's name, of which only the import and the function's shapes are like the real one."""
    (folder / "flash_attn.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(sys.modules, "flash_attn", None)  # so that what is imported now goes with the test
    monkeypatch.delitem(sys.modules, "flash_attn")


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 6))
    return monkeypatch


@pytest.fixture
def no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no GPU that could run it."""
    monkeypatch.setattr(prefill, "_try", lambda *_: None)


def test_parts_of_the_context_put_together_are_plain_causal_attention() -> None:
    """The context in two blocks that every query sees, and the chunk itself, causally."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 7, 24, generator=generator)
    key, value = (torch.randn(2, 3, 31, width, generator=generator) for width in (24, 16))
    blocks = [(slice(0, 10), False), (slice(10, 24), False), (slice(24, 31), True)]
    parts = [PRODUCTS.attend(query, key[:, :, b], value[:, :, b], 0.2, causal) for b, causal in blocks]
    mask = torch.ones(7, 31, dtype=torch.bool).tril(24)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.2)
    torch.testing.assert_close(merge(parts), expected)


def test_a_part_in_which_nothing_may_be_seen_adds_nothing() -> None:
    scores = torch.randn(1, 1, 2, 5)
    hidden = torch.tensor([[True] * 5, [False] * 5])
    weights, lse = weigh(scores.clone(), hidden)
    assert lse[0, 0, 0] == -torch.inf
    assert weights.isfinite().all()
    part, nothing = torch.randn(1, 1, 2, 4), torch.full((1, 1, 2, 4), 3.0)
    merged = merge([(part, torch.zeros(1, 1, 2)), (nothing, lse)])
    torch.testing.assert_close(merged[0, 0, 0], part[0, 0, 0])


def test_what_is_no_number_stays_hidden() -> None:
    scores = torch.tensor([[1.0, torch.nan, torch.inf]])
    weights, _ = weigh(scores, torch.tensor([[False, True, True]]))
    assert weights.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("capability", "dtype", "kernel"),
    [
        ((9, 0), torch.bfloat16, TORCH_FLASH),
        ((8, 0), torch.float16, TORCH_FLASH),
        ((7, 5), torch.float16, TORCH_EFFICIENT),
        ((8, 6), torch.float32, TORCH_EFFICIENT),
    ],
)
def test_without_the_library_torchs_flash_kernel_serves_where_it_can(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: torch.dtype, kernel: prefill.Kernel
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert choose_kernel(CUDA, dtype, 192, FlashAttn.AUTO) is kernel
    assert choose_kernel(torch.device("cpu"), dtype, 192, FlashAttn.AUTO) is PRODUCTS


@pytest.mark.usefixtures("no_trial")
def test_the_library_is_used_where_it_is_there_and_not_where_it_is_off(
    tmp_path: Path, ampere: pytest.MonkeyPatch
) -> None:
    install(tmp_path, ampere, LIBRARY)
    for wanted in (FlashAttn.AUTO, FlashAttn.BUILD):
        assert choose_kernel(CUDA, torch.bfloat16, 192, wanted).name == "flash-attn 9.9"
    install(tmp_path, ampere, "raise SystemExit('imported')")
    assert choose_kernel(CUDA, torch.bfloat16, 192, FlashAttn.OFF) is TORCH_FLASH


def test_the_librarys_shapes_and_order_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, LIBRARY)
    kernel = flash_attn(FlashAttn.AUTO)
    assert kernel is not None
    query, key, value = torch.randn(1, 3, 5, 24), torch.randn(1, 3, 5, 24), torch.randn(1, 3, 5, 16)
    for causal in (True, False):
        for ours, expected in zip(
            kernel.attend(query, key, value, 0.3, causal),
            PRODUCTS.attend(query, key, value, 0.3, causal),
            strict=True,
        ):
            torch.testing.assert_close(ours, expected)
    assert sys.modules["flash_attn"].calls == [((1, 5, 3, 24), (1, 5, 3, 24))] * 2


@pytest.mark.parametrize(
    "source", ["raise ImportError('undefined symbol: _ZN3c10')", "raise OSError('no libcudart')"]
)
def test_a_library_of_another_torch_is_told(
    tmp_path: Path, ampere: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, source: str
) -> None:
    install(tmp_path, ampere, source)
    with caplog.at_level(logging.WARNING, logger=prefill.__name__):
        assert choose_kernel(CUDA, torch.bfloat16, 192, FlashAttn.AUTO) is TORCH_FLASH
    (record,) = caplog.records
    assert source.split("'")[1] in record.__dict__["reason"]
    with pytest.raises(LoadError, match=r"FLASH_ATTN=build.*cannot be imported"):
        choose_kernel(CUDA, torch.bfloat16, 192, FlashAttn.BUILD)


def test_a_library_without_kernels_for_this_card_is_told(
    tmp_path: Path, ampere: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("no kernel image is available")

    install(tmp_path, ampere, LIBRARY)
    ampere.setattr(prefill, "_try", fails)
    with caplog.at_level(logging.WARNING, logger=prefill.__name__):
        assert choose_kernel(CUDA, torch.bfloat16, 192, FlashAttn.AUTO) is TORCH_FLASH
    assert "no kernel image" in caplog.records[0].__dict__["reason"]
    with pytest.raises(LoadError, match="no kernel image"):
        choose_kernel(CUDA, torch.bfloat16, 192, FlashAttn.BUILD)


def test_a_build_that_is_not_there_or_cannot_run_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill, "find_spec", lambda _name: None)
    with pytest.raises(LoadError, match=r"FLASH_ATTN=build.*not installed"):
        choose_attention(tiny_llama(), FlashAttn.BUILD, on_gpu=True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    with pytest.raises(LoadError, match="needs Ampere"):
        choose_kernel(CUDA, torch.float16, 192, FlashAttn.BUILD)


def test_every_module_gets_its_devices_kernel_and_the_names_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_deepseek()
    assert use_kernels(model, FlashAttn.AUTO) is None, "nothing is absorbed yet"
    absorb(model)
    monkeypatch.setattr(mla, "choose_kernel", lambda *_: TORCH_FLASH)
    attention = choose_attention(model, FlashAttn.AUTO, on_gpu=False)
    assert (attention.prefill, attention.decode) == ("torch flash", "absorbed")
    modules = [module for module in model.modules() if isinstance(module, AbsorbedAttention)]
    assert [module.prefill for module in modules] == [TORCH_FLASH] * 4
    plain = choose_attention(tiny_llama(), FlashAttn.AUTO, on_gpu=False)
    assert (plain.prefill, plain.decode) == ("matrix products", "matrix products")


def test_cudnns_attention_is_off_on_gpus() -> None:
    before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]  # torch has none there
    try:
        torch.backends.cuda.enable_cudnn_sdp(True)
        settle_sdpa()
        assert not torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]  # likewise
        torch.backends.cuda.enable_cudnn_sdp(True)
        choose_attention(tiny_llama(), FlashAttn.AUTO, on_gpu=True)
        assert not torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]  # likewise
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
