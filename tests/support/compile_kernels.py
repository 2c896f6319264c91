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

from app.engine.attention.backends.triton import heads, latents, merge, rotation
from app.engine.layers import triton_experts as experts

HALF = torch.bfloat16

FORMS: dict[str, tuple[Any, dict[str, int]]] = {
    "latents of DeepSeek-Coder-V2-Lite": (latents.latents_kernel, latents.tiles(512, 64, 32, HALF)),
    "rotation and store": (rotation.store_kernel, rotation.tiles(16, 192, 512, 64)),
    "heads of 128, four to a key": (heads.heads_kernel, heads.tiles(128, 32, 4, HALF)),
    "heads of 64, three to a key": (heads.heads_kernel, heads.tiles(64, 32, 3, HALF)),
    "gates of 16 rows": (experts.gate_up_kernel, experts.tiles(2048, 1408, 16, 6, HALF)),
    "gates of 64 rows": (experts.gate_up_kernel, experts.tiles(2048, 1408, 64, 6, HALF)),
    "down of 64 rows": (experts.down_kernel, experts.tiles(2048, 1408, 64, 6, HALF)),
    "merge": (merge.merge_kernel, {"SPLITS": 64, "WIDTH_BLOCK": merge.WIDTH_BLOCK}),
}

TYPES = {
    **dict.fromkeys(("tables", "lengths", "chosen", "slots"), "*i64"),
    **dict.fromkeys(("parts", "sums", "shares", "output", "rotation"), "*fp32"),
    "scaling": "fp32",
    "epsilon": "fp32",
}
"""Of the arguments; other numbers are int32."""

IN_HALF = {"query", "pages", "keys", "values", "out", "hidden", "weight", "inner", "compressed"}


def compile_for(capability: int) -> dict[str, int]:
    """Bytes of shared memory of every kernel."""
    target = GPUTarget("cuda", capability, 32)
    shared = {}
    for name, (kernel, settings) in FORMS.items():
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
