"""One DeepSeek-V2 attention layer, stock and absorbed, at DeepSeek-Coder-V2-Lite's real dimensions.

A decode step: one new token per sequence, over `length` cached ones. Both have the same random weights.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DeepseekV2Config
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention, DeepseekV2RotaryEmbedding

from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.cache import KvCache
from app.engine.attention.mla import AbsorbedAttention
from app.engine.attention.step import step_of
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.sequence import TokenSequence
from app.engine.kv.shape import LatentShape
from app.engine.scheduling.decision import Decision, SequenceChunk
from app.models.catalogue import look_up
from bench.workers.pipe import answers, serve

KINDS = ("stock", "absorbed")


class Latents:
    """A cache that writes the new token in place. transformers' own copies everything for each token, which would
    hide the difference between the two forms of attention."""

    def __init__(self, batch: int, length: int, config: DeepseekV2Config, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(1)
        self._latent = torch.randn(batch, 1, length, config.kv_lora_rank, generator=generator).to(dtype)
        self._rope = torch.randn(batch, 1, length, config.qk_rope_head_dim, generator=generator).to(dtype)

    def update(self, latent: Tensor, rope: Tensor, _layer: int) -> tuple[Tensor, Tensor]:
        self._latent[:, :, -latent.shape[2] :] = latent
        self._rope[:, :, -rope.shape[2] :] = rope
        return self._latent, self._rope

    def in_pages(self) -> KvCache:
        """The same numbers in pages, with a step planned that decodes every sequence's last token."""
        batch, _, length, rank = self._latent.shape
        backend = LatentsBackend(LatentShape(rank, self._rope.shape[-1]), PAGE_SIZE, self._latent.dtype)
        each = -(-length // PAGE_SIZE)
        cache = KvCache(backend, [torch.device("cpu")], batch * each, PAGE_SIZE)
        rows = torch.cat((self._latent, self._rope), dim=-1)[:, 0]
        sequences = []
        for number in range(batch):
            cache.storage(0)[number * each : (number + 1) * each].view(each * PAGE_SIZE, -1)[:length] = rows[number]
            sequence = TokenSequence(str(number), [1] * length, 1)
            sequence.pages = list(range(number * each, (number + 1) * each))
            sequences.append(sequence)
        cache.begin(step_of(Decision(tuple(SequenceChunk(s, length - 1, 1) for s in sequences), ()), PAGE_SIZE))
        return cache


class Layers:
    def __init__(self, batch: int, length: int, dtype: torch.dtype) -> None:
        config = DeepseekV2Config(**look_up("deepseek-coder-v2-lite").config())
        config._attn_implementation = "sdpa"  # its only name; the stock layer's fastest here
        generator = torch.Generator().manual_seed(2)
        hidden = torch.randn(batch, 1, config.hidden_size, generator=generator).to(dtype)
        rotation = DeepseekV2RotaryEmbedding(config)(hidden, torch.full((batch, 1), length - 1))
        latents = Latents(batch, length, config, dtype)
        stock, absorbed = (_layer(kind, config).to(dtype) for kind in (DeepseekV2Attention, AbsorbedAttention))
        pages = latents.in_pages()
        rows, turned = hidden.transpose(0, 1), rotation.transpose(0, 1)
        self._steps: dict[str, Callable[[], Tensor]] = {
            "stock": lambda: stock(hidden, None, latents, rotation)[0],
            "absorbed": lambda: absorbed(rows, position_embeddings=turned, kv_cache=pages)[0].transpose(0, 1),
        }

    def step(self, kind: str) -> tuple[Tensor, float]:
        """The output, and the seconds that it took."""
        begun = time.monotonic()
        output = self._steps[kind]()
        return output, time.monotonic() - begun

    def best(self, kind: str, repeats: int) -> float:
        """The seconds of the fastest of `repeats` steps in a row."""
        return min(self.step(kind)[1] for _ in range(repeats))


def _layer(kind: type[DeepseekV2Attention], config: DeepseekV2Config) -> Any:
    torch.manual_seed(3)
    layer = kind(config, layer_idx=0)
    for weight in layer.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    return layer


def main() -> None:
    pipe = answers()
    parser = argparse.ArgumentParser()
    parser.add_argument("dtype", choices=["bfloat16", "float32"])
    parser.add_argument("batch", type=int)
    parser.add_argument("length", type=int)
    arguments = parser.parse_args()
    with torch.inference_mode():
        layers = Layers(arguments.batch, arguments.length, getattr(torch, arguments.dtype))
        stock, absorbed = (layers.step(kind)[0].float() for kind in KINDS)  # which also warms up
        difference = ((stock - absorbed).norm() / stock.norm()).item()
        serve(pipe, {"difference": difference}, lambda question: {"seconds": layers.best(**question)})


if __name__ == "__main__":
    main()
