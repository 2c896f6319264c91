"""The contestant "raw generate": transformers' own model and `generate`, a static batch padded on the left.

Loaded and run on the main thread, the only one that uses torch.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from bench.workers.pipe import answers, serve


def main() -> None:
    pipe = answers()
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("dtype", choices=["bfloat16", "float32"])
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(
        arguments.folder, dtype=getattr(torch, arguments.dtype), local_files_only=True
    )
    model.generation_config.eos_token_id = None  # no answer ends early
    ready = {"dtype": arguments.dtype, "attention": model.config._attn_implementation}
    serve(pipe, ready, lambda question: answer(model, **question))


@torch.inference_mode()
def answer(model: Any, prompts: list[list[int]], tokens: int, threads: int) -> dict[str, Any]:
    """The seconds for `tokens` new tokens of each prompt, greedily, prefill included."""
    torch.set_num_threads(threads)
    longest = max(len(prompt) for prompt in prompts)
    pad = model.config.pad_token_id or 0
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    begun = time.monotonic()
    output = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, pad_token_id=pad)
    seconds = time.monotonic() - begun
    if output.shape[1] - longest != tokens:
        raise SystemExit("generate did not generate what was asked")
    return {"seconds": seconds}


if __name__ == "__main__":
    main()
