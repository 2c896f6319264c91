"""A Llama's layers in few operations give the modules' numbers: interpreted on a CPU, compiled on a GPU."""

from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from app.engine.attention.backends.on_gpu import TritonHeads
from app.engine.attention.backends.triton import head_rotation, heads, splits
from app.engine.attention.joined import join
from app.engine.execution.decoder import Decoder
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.shape import HeadsShape, kv_shape
from app.engine.layers.llama_gpu import FewOperations, obstacle
from tests.support.kernels import DEVICE
from tests.support.paging import logits_of
from tests.support.tiny import VOCABULARY, tiny_llama

PARTS = (20, 31, 32, 33, 60)
"""Where texts are cut: two prompt chunks, two decode steps on both sides of a page's end, and a chunk."""

SMALL: dict[str, Any] = {
    "vocab_size": 8,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def decoder_of(model: Any) -> Decoder:
    """With Triton's attention."""
    decoder = Decoder(model.to(DEVICE))
    shape = kv_shape(model.config.to_dict())
    assert isinstance(shape, HeadsShape)
    decoder.backend = TritonHeads(shape, PAGE_SIZE, torch.float32, heads, head_rotation)
    return decoder


def with_norms(model: Any) -> Any:
    """Norms whose weights differ from each other: new ones are all 1."""
    generator = torch.Generator().manual_seed(2)
    for name, weight in model.named_parameters():
        if "norm" in name:
            weight.copy_(torch.rand(weight.shape, generator=generator) + 0.5)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 6, "intermediate_size": 200},
        {"head_dim": 40, "num_attention_heads": 4, "num_key_value_heads": 1},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 8.0}},
    ],
    ids=["grouped heads", "a key for each head", "heads of another width than the model's", "scaled rotation"],
)
def test_chunks_and_decode_steps_equal_the_stock_model(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "PROGRAMS", 8)  # the interpreter runs them one after the other
    changes |= {"num_hidden_layers": 2}
    tokens = torch.randint(3, VOCABULARY, (2, PARTS[-1]), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = with_norms(tiny_llama(**changes))(input_ids=tokens).logits
        decoder = decoder_of(with_norms(tiny_llama(**changes)))
        (segment,) = decoder.segments
        segment.run = FewOperations(segment.layers)
        got = logits_of(decoder, tokens, PARTS)
    torch.testing.assert_close(got.cpu(), expected, atol=1e-4, rtol=1e-4)


def test_joined_projections_are_the_modules_own_weights() -> None:
    model = tiny_llama()
    decoder = decoder_of(model)
    weights, held = decoder.weight_bytes, _bytes_held(model)
    few = [FewOperations(segment.layers) for segment in decoder.segments]
    assert few
    assert decoder.weight_bytes == weights
    assert _bytes_held(model) == held
    layer = model.model.layers[0]
    for parts in ((layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj), _mlp(layer)):
        assert len({part.weight.untyped_storage().data_ptr() for part in parts}) == 1


def test_what_lies_between_joined_projections_moves_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the weights lie in one block, in the order of their names. One that stayed between those that move
    would leave a hole on both sides, too small for the joined one, that never becomes KV memory."""
    moved: list[set[int]] = []

    def noted(*parts: Any, beside: Any = ()) -> torch.Tensor:
        moved.append({id(part) for part in (*parts, *beside)})
        return join(*parts, beside=beside)

    monkeypatch.setattr("app.engine.layers.llama_gpu.join", noted)
    model = tiny_llama(num_hidden_layers=1)
    FewOperations(model.model.layers)
    named = sorted((name, id(module)) for name, module in model.model.layers[0].named_modules() if _linear(module))
    assert len(moved) == 2
    for group in moved:
        places = [place for place, (_, module) in enumerate(named) if module in group]
        assert places == list(range(places[0], places[-1] + 1)), named


def _linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear)


def _mlp(layer: Any) -> tuple[Any, Any]:
    return layer.mlp.gate_proj, layer.mlp.up_proj


def _bytes_held(model: Any) -> int:
    """Of all memory that parameters are parts of."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in (p.untyped_storage() for p in model.parameters())}
    return sum(storages.values())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (tiny_llama, ""),
        (lambda: tiny_llama(attention_bias=True), "biases"),
        (lambda: tiny_llama(mlp_bias=True), "biases"),
        (lambda: tiny_llama(hidden_act="gelu"), "gelu"),
        (lambda: MistralForCausalLM(MistralConfig(**SMALL)), "MistralDecoderLayer"),
        (lambda: Qwen2ForCausalLM(Qwen2Config(**SMALL)), "Qwen2DecoderLayer"),
    ],
    ids=["a plain Llama", "biased attention", "biased MLP", "another gate", "Mistral", "Qwen2"],
)
def test_what_it_does_not_compute(make: Any, reason: str) -> None:
    said = obstacle(make().model.layers)
    assert reason in said
    assert bool(said) == bool(reason)


def test_a_layer_with_a_forward_pass_of_its_own_is_left_alone() -> None:
    """As accelerate's hooks leave one."""
    model = tiny_llama()
    model.model.layers[1].forward = model.model.layers[1].forward
    assert "own layer" in obstacle(model.model.layers)
