"""Small models with random weights that take the code paths of the real ones, in milliseconds on a CPU."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM, LlamaConfig, LlamaForCausalLM

VOCABULARY = 512

Model = TypeVar("Model", bound=nn.Module)

YARN = {
    "rope_type": "yarn",
    "rope_theta": 10_000.0,
    "factor": 40.0,
    "original_max_position_embeddings": 4096,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
}
"""DeepSeek-Coder-V2-Lite's own rope settings."""

YARN_SOFTMAX_FACTOR = (0.1 * 0.707 * math.log(40.0) + 1.0) ** 2
"""What YaRN with these settings multiplies attention scores by (YaRN paper, arXiv 2309.00071, section 3.4, in the
form of DeepSeek-V2's own code): 1.5896."""


def deepseek_config(**changes: Any) -> DeepseekV2Config:
    """DeepSeek-V2 with every trait of Coder-V2-Lite: latent attention, one dense layer, then experts."""
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 256,
        "moe_intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "n_routed_experts": 16,
        "num_experts_per_tok": 6,
        "n_shared_experts": 2,
        "q_lora_rank": None,
        "kv_lora_rank": 64,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16,
        "v_head_dim": 24,  # not the keys' width: shapes that are mixed up must not fit
        "first_k_dense_replace": 1,
        "max_position_embeddings": 4096,
        "topk_method": "greedy",
        "n_group": 1,
        "topk_group": 1,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return DeepseekV2Config(**(settings | changes))


def tiny_deepseek(*, yarn: bool = False, seed: int = 0, **changes: Any) -> DeepseekV2ForCausalLM:
    """A small DeepSeek-V2 in float32; `changes` go to its config."""
    if yarn:
        changes = {"rope_parameters": dict(YARN), "max_position_embeddings": 163_840} | changes
    return _made(DeepseekV2ForCausalLM, deepseek_config(**changes), seed)


def tiny_llama(*, seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A small Llama with grouped queries, in float32; `changes` go to its config."""
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return _made(LlamaForCausalLM, LlamaConfig(**(settings | changes)), seed)


def save_tiny_tokenizer(folder: Path) -> None:
    """Three special tokens, and one for each byte. The other ids of the models' vocabulary are unused."""
    special = ["<unk>", "<s>", "</s>"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(folder / "tokenizer.json"))


def _made(kind: Callable[[Any], Model], config: Any, seed: int) -> Model:
    """Random weights wide enough that the next tokens do not nearly tie, without touching torch's global state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config.initializer_range = 0.1
        return kind(config).eval().requires_grad_(requires_grad=False)
