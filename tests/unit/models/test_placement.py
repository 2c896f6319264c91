"""The plan's arithmetic, held against transformers' own models on the meta device."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from app.models.catalogue import CATALOGUE, DEEPSEEK, EMBEDDED
from app.models.errors import DoesNotFit, UnknownArchitecture
from app.models.parameter_count import sizes_of
from app.models.placement import (
    CPU_KV_TOKENS,
    CPU_WORKING_MEMORY,
    LEAST_KV_TOKENS,
    Gpu,
    Plan,
    plan,
    plan_cpu,
    plan_for,
)
from app.models.units import GIB, MIB, gib, parse_size
from app.settings import Settings

CONFIG = DEEPSEEK.config()
SMALL: dict[str, dict[str, Any]] = {
    "deepseek_v2": {
        "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 96, "moe_intermediate_size": 24,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4, "n_routed_experts": 8,
        "num_experts_per_tok": 2, "n_shared_experts": 2, "q_lora_rank": 16, "kv_lora_rank": 32,
        "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 12, "first_k_dense_replace": 2,
        "attention_bias": True,
    },
    "llama": {
        "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24, "attention_bias": True, "mlp_bias": True,
    },
    "mistral": {
        "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "qwen2": {
        "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
}  # fmt: skip  # a line of each config's sizes reads better than a column
CONFIGS = {name: model.config() for name, model in CATALOGUE.items()} | {
    name: {"model_type": name, **config} for name, config in SMALL.items()
}


def gpus(*sizes: str) -> list[Gpu]:
    return [Gpu(index, "test", parse_size(size), parse_size(size)) for index, size in enumerate(sizes)]


def planned(*sizes: str) -> Plan:
    return plan(CONFIG, gpus(*sizes), reserve_gib=2)


def modules_of(config: Mapping[str, Any]) -> dict[str, int]:
    """Parameters of each module that a device map names, counted by transformers."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))  # type: ignore[no-untyped-call]  # transformers has none there
    names = ["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"]
    names += [f"model.layers.{number}" for number in range(config["num_hidden_layers"])]
    sizes = {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in names}
    assert sum(1 for _ in model.parameters()) == sum(
        1 for name, _ in model.named_parameters() if any(name.startswith(f"{module}.") for module in names)
    ), "a device map of these names leaves a parameter out"
    return sizes


@pytest.mark.parametrize("name", CONFIGS)
def test_the_sizes_are_those_of_transformers_own_model(name: str) -> None:
    config = CONFIGS[name]
    modules, sizes = modules_of(config), sizes_of(config)
    assert modules["model.embed_tokens"] == sizes.embedding
    assert [modules[f"model.layers.{number}"] for number in range(len(sizes.layers))] == list(sizes.layers)
    assert modules["model.norm"] == sizes.norm
    assert modules["lm_head"] == (sizes.head or sizes.embedding)  # a tied head is the embedding again


def test_deepseek_counts_to_the_parameters_that_are_known_of_it() -> None:
    plan = planned("24GiB", "24GiB")
    assert plan.parameters == 15_706_484_224
    assert gib(plan.weights) == "29.26 GiB"
    assert plan.kv_per_token == 31_104


def test_two_gpus_of_24_gib_take_14_and_13_layers() -> None:
    plan = planned("24GiB", "24GiB")
    first, second = plan.shares
    assert (len(first.layers), len(second.layers)) == (14, 13)
    assert (gib(first.weights), gib(second.weights)) == ("14.70 GiB", "14.55 GiB")
    assert sum(share.weights for share in plan.shares) == plan.weights


@pytest.mark.parametrize("sizes", [("24GiB", "24GiB"), ("40GiB", "16GiB"), ("12GiB",) * 4, ("80GiB",)])
def test_every_gpu_holds_its_part_and_no_other_split_holds_more_tokens(sizes: tuple[str, ...]) -> None:
    plan = planned(*sizes)
    for share in plan.shares:
        assert share.weights + plan.kv_tokens * share.kv_per_token + 2 * GIB <= share.gpu.free
    if len(sizes) == 2:
        sizes_by_layer = sizes_of(CONFIG)
        per_layer, ends = sizes_by_layer.kv_elements * 2, 2 * sizes_by_layer.embedding
        budgets = [gpu.free - 2 * GIB for gpu in gpus(*sizes)]
        best = 0
        for cut in range(1, len(sizes_by_layer.layers)):
            first = (budgets[0] - ends - 2 * sum(sizes_by_layer.layers[:cut])) // (cut * per_layer)
            rest = len(sizes_by_layer.layers) - cut
            second = budgets[1] - ends - 2 * sum(sizes_by_layer.layers[cut:]) - 2 * sizes_by_layer.norm
            best = max(best, min(first, second // (rest * per_layer)))
        assert plan.kv_tokens == best


def test_the_device_map_names_every_module_once_and_in_order() -> None:
    plan = planned("24GiB", "24GiB")
    assert set(plan.device_map) == set(modules_of(CONFIG))
    assert plan.device_map["model.embed_tokens"] == 0
    assert plan.device_map["model.norm"] == plan.device_map["lm_head"] == 1
    devices = [plan.device_map[f"model.layers.{number}"] for number in range(27)]
    assert devices == sorted(devices)
    assert plan.max_memory == {0: 22 * GIB, 1: 22 * GIB}


def test_a_tied_head_stays_with_the_embedding() -> None:
    plan_ = plan(EMBEDDED.config(), gpus("4GiB", "4GiB"), reserve_gib=2)
    assert plan_.parameters == 134_515_008
    assert plan_.device_map["lm_head"] == plan_.device_map["model.embed_tokens"] == 0
    assert plan_.device_map["model.norm"] == 1


@pytest.mark.parametrize(
    ("sizes", "where"), [(("16GiB", "16GiB"), "GPU 1"), (("16GiB",), "GPU 0"), (("24GiB", "1GiB"), "GPU 1")]
)
def test_what_does_not_fit_says_how_much_is_missing_where(sizes: tuple[str, ...], where: str) -> None:
    with pytest.raises(DoesNotFit, match=rf"29\.26 GiB of weights.* Missing on {where}: \d+\.\d\d GiB"):
        planned(*sizes)


def test_a_plan_without_room_for_one_request_is_refused() -> None:
    config = EMBEDDED.config()
    needed = sizes_of(config).parameters * 2 + LEAST_KV_TOKENS * 30 * 2 * 3 * 64 * 2
    enough = [Gpu(0, "test", needed, needed)]
    assert plan(config, enough, reserve_gib=0).kv_tokens == LEAST_KV_TOKENS
    with pytest.raises(DoesNotFit):
        plan(config, [Gpu(0, "test", needed, needed - 1)], reserve_gib=0)


def test_memory_that_others_use_is_not_planned_with() -> None:
    with pytest.raises(DoesNotFit):
        plan(CONFIG, [Gpu(0, "test", 24 * GIB, 24 * GIB), Gpu(1, "test", 24 * GIB, 8 * GIB)], reserve_gib=2)


def test_without_gpus_what_the_operator_wants_must_fit_the_memory() -> None:
    config = EMBEDDED.config()
    settings = Settings(_env_file=None, kv_tokens=1000)
    cpu = plan_for(settings, config, [], 4 * GIB)
    assert (cpu.weights, cpu.kv_tokens, cpu.device_map, cpu.max_memory) == (134_515_008 * 4, 1000, {}, {})
    needed = cpu.weights + CPU_WORKING_MEMORY + 1000 * cpu.kv_per_token
    assert plan_cpu(config, available=needed, kv_tokens=1000).kv_tokens == 1000
    with pytest.raises(DoesNotFit, match="missing"):
        plan_cpu(config, available=needed - MIB, kv_tokens=1000)


def test_without_gpus_the_cache_shrinks_to_what_the_memory_holds() -> None:
    config = EMBEDDED.config()
    whole = plan_cpu(config, available=64 * GIB)
    assert whole.kv_tokens == CPU_KV_TOKENS
    beside = whole.weights + CPU_WORKING_MEMORY
    assert plan_cpu(config, available=beside + 9000 * whole.kv_per_token).kv_tokens == 9000
    least = beside + LEAST_KV_TOKENS * whole.kv_per_token
    assert plan_cpu(config, available=least).kv_tokens == LEAST_KV_TOKENS
    with pytest.raises(DoesNotFit, match=rf"KV cache of {LEAST_KV_TOKENS:,} tokens.*missing"):
        plan_cpu(config, available=least - MIB)


def test_another_architecture_is_refused_by_name() -> None:
    with pytest.raises(UnknownArchitecture, match=r"'mamba'.*deepseek_v2, llama"):
        plan({"model_type": "mamba"}, gpus("24GiB"), reserve_gib=2)


def test_planning_imports_no_torch() -> None:
    code = (
        "import sys; from app.cli import main; assert main(['plan', '--gpus', '24GiB,24GiB']) == 0; "
        "main(['models', 'list']); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
