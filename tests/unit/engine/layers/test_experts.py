"""Every implementation of the experts gives the same numbers, and the measured one is used."""

import logging

import pytest
import torch
from torch import Tensor
from transformers.integrations import moe

from app.engine.layers import experts
from app.engine.layers.experts import IMPLEMENTATIONS, ExpertsPolicy, choose, measure
from tests.support.simgpu import gpus
from tests.support.split import split
from tests.support.tiny import VOCABULARY, deepseek_config, tiny_deepseek, tiny_llama


def ids(tokens: int) -> Tensor:
    return torch.randint(0, VOCABULARY, (1, tokens), generator=torch.Generator().manual_seed(tokens))


TABLE = {
    1: {"grouped_mm": 3.0, "batched_mm": 1.0, "eager": 2.0},
    8: {"grouped_mm": 2.0, "batched_mm": 3.0, "eager": 1.0},
    64: {"grouped_mm": 1.0, "eager": 2.0},
}


@pytest.mark.parametrize("tokens", [1, 7, 40])
def test_all_implementations_give_the_same_logits(tokens: int) -> None:
    model = tiny_deepseek()
    logits = []
    for name in IMPLEMENTATIONS:
        model.config._experts_implementation = name
        logits.append(model(ids(tokens), use_cache=False).logits)
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("tokens", "name"),
    [(1, "batched_mm"), (2, "batched_mm"), (3, "eager"), (22, "eager"), (23, "grouped_mm"), (9000, "grouped_mm")],
)
def test_the_fastest_at_the_nearest_size_computes_the_step(
    tokens: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_deepseek()
    ran = watch(monkeypatch)
    policy = ExpertsPolicy(model.config, TABLE)
    policy.apply(tokens)
    model(ids(3), use_cache=False)
    assert ran == ([] if name == "eager" else [name] * 3), "one for each layer with experts"
    assert policy.implementation_for(tokens) == name


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which of the registered implementations run; `eager` is the model's own and not among them."""
    ran: list[str] = []
    for name in ("grouped_mm", "batched_mm"):
        original = moe.ALL_EXPERTS_FUNCTIONS[name]

        def counted(*args: Tensor, name: str = name, original: object = original) -> Tensor:
            ran.append(name)
            return original(*args)  # type: ignore[operator,no-any-return]  # a function of transformers

        monkeypatch.setitem(moe.ALL_EXPERTS_FUNCTIONS._global_mapping, name, counted)
    return ran


def test_choosing_measures_every_implementation_and_says_what_won(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny_deepseek()
    before = model.config._experts_implementation
    with caplog.at_level(logging.INFO, logger=experts.__name__):
        policy = choose(model, sizes=(1, 8), seconds=0.05)
    assert policy is not None
    assert model.config._experts_implementation == before, "measuring changes nothing"
    (record,) = caplog.records
    times = record.__dict__["milliseconds"]
    assert {size: set(row) for size, row in times.items()} == {"1": set(IMPLEMENTATIONS), "8": set(IMPLEMENTATIONS)}
    for size, name in record.__dict__["chosen"].items():
        assert policy.implementation_for(int(size)) == name
        assert times[size][name] == min(times[size].values())


def test_a_model_without_experts_needs_no_choice() -> None:
    assert choose(tiny_llama()) is None


def test_copies_that_would_take_too_much_memory_are_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_deepseek()
    block = model.model.layers[1].mlp.experts
    pair = block.gate_up_proj[0].numel() * 4
    monkeypatch.setattr(experts, "COPY_LIMIT", 6 * pair)  # six experts per token: one token fits exactly
    ran = watch(monkeypatch)
    table = measure([block], (1, 2), seconds=0.01)
    assert set(table[1]) == set(IMPLEMENTATIONS)
    assert set(table[2]) == set(IMPLEMENTATIONS) - {"batched_mm"}
    assert "batched_mm" in ran


def test_an_implementation_that_does_not_run_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*args: Tensor) -> Tensor:
        raise NotImplementedError("no kernel")

    monkeypatch.setitem(moe.ALL_EXPERTS_FUNCTIONS._global_mapping, "grouped_mm", missing)
    policy = choose(tiny_deepseek(), sizes=(1,), seconds=0.01)
    assert policy is not None
    assert policy.implementation_for(1) != "grouped_mm"
    assert any("no kernel" in record.__dict__.get("reason", "") for record in caplog.records)


def test_experts_on_a_gpu_are_measured_there(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[object] = []
    monkeypatch.setattr(torch.get_device_module(gpus()[1]), "synchronize", lambda device=None: waited.append(device))
    model = tiny_deepseek()
    split(model, 1)
    block = model.model.layers[1].mlp.experts
    assert block.gate_up_proj.device == gpus()[1]
    assert set(measure([block], (1,), seconds=0.01)[1]) >= {"batched_mm", "eager"}
    assert set(waited) == {gpus()[1]}, "not for the current device, which is another one"


@pytest.mark.parametrize("runs_on", [0, 1, 2])
def test_our_kernels_are_used_where_they_run_on_every_gpu(runs_on: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cards may be of two kinds; all layers share the choice."""
    monkeypatch.setattr(experts, "_use_ours", lambda block: block.gate_up_proj.device in gpus()[:runs_on])
    measured: list[str] = []

    def measure_size(_block: object, names: list[str], *_: object) -> dict[str, float]:
        measured.extend(names)
        return {"eager": 1.0}

    monkeypatch.setattr(experts, "_measure_size", measure_size)
    model = tiny_deepseek()
    split(model, 2)
    assert choose(model, sizes=(1,)) is not None
    assert (experts.OURS in measured) == (runs_on == 2)


def test_lites_experts_copy_more_than_is_allowed_from_eight_tokens_on() -> None:
    """69 MB for each sequence: the limit stops short of what a GPU keeps free for activations."""
    with torch.device("meta"):
        config = deepseek_config(hidden_size=2048, moe_intermediate_size=1408, n_routed_experts=64)
        block = type(tiny_deepseek(num_hidden_layers=2).model.layers[1].mlp.experts)(config).bfloat16()
    assert experts._copied_bytes(block, 1 * 6) == 6 * 2 * 1408 * 2048 * 2
    assert experts._copied_bytes(block, 8 * 6) > experts.COPY_LIMIT
