"""Compiles every Triton kernel for a GPU that need not be there, and prints the shared memory of each as JSON.

    python -m tests.support.compile_kernels 86

A process of its own: in one with TRITON_INTERPRET=1 kernels cannot be compiled.
"""

import json
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from app.engine.attention.backends.triton import head_rotation, heads, latents, merge, rotation
from app.engine.layers import triton_experts as experts
from app.engine.layers import triton_norms, triton_router, triton_silu, triton_sort, triton_tiles

HALF = torch.bfloat16

ROOM = {capability: kib * 1024 for capability, kib in {80: 163, 86: 99, 89: 99, 90: 227}.items()}
"""Bytes of shared memory that one block of threads can have (CUDA C++ Programming Guide, table of technical
specifications)."""


def experts_of(tokens: int, room: int, *, up: bool, shared: int = 2) -> dict[str, int]:
    form, rows = triton_tiles.form_of(tokens, 6, 64), triton_tiles.rows_of(tokens, 6, 64, room)
    constants = triton_tiles.constants_of(2048, 1408, 6, form=form, rows=rows, experts=64, shared=shared)
    return constants | triton_tiles.tiles(HALF, form=form, rows=rows, room=room, up=up)


def forms(room: int) -> dict[str, tuple[Any, dict[str, int]]]:
    """The kernels for cards with so many bytes of shared memory for a block."""
    of_experts = {
        f"{name} of {tokens} tokens": (kernel, experts_of(tokens, room, up=kernel is experts.gate_up_kernel))
        for name, kernel in (("gates", experts.gate_up_kernel), ("down", experts.down_kernel))
        for tokens in (1, 16, 64, 65, 2048)
    }
    return {
        "latents of DeepSeek-Coder-V2-Lite": (latents.latents_kernel, latents.tiles(512, 64, 32, HALF)),
        "rotation and store": (rotation.store_kernel, rotation.tiles(16, 192, 512, 64)),
        "heads of 128, four to a key": (heads.heads_kernel, heads.tiles(128, 32, 4, HALF)),
        "heads of 64, three to a key": (heads.heads_kernel, heads.tiles(64, 32, 3, HALF)),
        "rotation and store of heads of 128, four to a key": (
            head_rotation.store_kernel,
            head_rotation.tiles(128, 32, 4),
        ),
        "rotation and store of heads of 64, three to a key": (
            head_rotation.store_kernel,
            head_rotation.tiles(64, 32, 3),
        ),
        **of_experts,
        "gates without shared experts": (experts.gate_up_kernel, experts_of(16, room, up=True, shared=0)),
        "sorted pairs": (triton_sort.sort_kernel, triton_sort.tiles(64, 64)),
        "sum of eight parts, and its norm": (triton_norms.add_norm_kernel, triton_norms.tiles(2048, 8)),
        "sum of one part, and its norm": (triton_norms.add_norm_kernel, triton_norms.tiles(576, 1)),
        "gate of an MLP": (triton_silu.silu_kernel, triton_silu.tiles(14_336)),
        "scores of the router": (triton_router.scores_kernel, triton_router.score_tiles(2048, 64, 16)),
        "choice of the router": (triton_router.choice_kernel, triton_router.choice_tiles(64, 16, 6)),
        "merge": (merge.merge_kernel, {"SPLITS": 64, "WIDTH_BLOCK": merge.WIDTH_BLOCK}),
    }


TYPES = {
    **dict.fromkeys(("tables", "lengths", "chosen", "slots"), "*i64"),
    **dict.fromkeys(("order", "owners"), "*i32"),
    **dict.fromkeys(("parts", "sums", "shares", "output", "rotation", "scores"), "*fp32"),
    "scaling": "fp32",
    "epsilon": "fp32",
    "factor": "fp32",
}
"""Of the arguments; other numbers are int32."""

IN_HALF = {
    *("query", "rope_query", "pages", "keys", "values", "out", "hidden", "weight", "inner", "compressed"),
    *("shared_gate", "shared_up", "shared_down", "residual", "total", "normal"),
    *("states", "cos", "sin", "joined", "product"),
}


def compile_for(capability: int) -> dict[str, int]:
    """Bytes of shared memory of every kernel."""
    target = GPUTarget("cuda", capability, 32)
    shared = {}
    for name, (kernel, settings) in forms(ROOM[capability]).items():
        options = {key: value for key, value in settings.items() if key.startswith("num_")}
        constants = {key: value for key, value in settings.items() if key not in options}
        signature = {argument: _type(argument, constants) for argument in kernel.arg_names}
        aligned = {
            (place,): [["tt.divisibility", 16]]
            for place, argument in enumerate(kernel.arg_names)
            if signature[argument].startswith("*")
        }
        source = ASTSource(kernel, signature, constexprs=constants, attrs=aligned)
        shared[name] = triton.compile(source, target=target, options=options).metadata.shared
    return shared


def _type(argument: str, constants: dict[str, int]) -> str:
    if argument in constants:
        return "constexpr"
    return "*bf16" if argument in IN_HALF else TYPES.get(argument, "i32")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(compile_for(int(sys.argv[1]))))
