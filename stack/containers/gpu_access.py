"""Whether the app's container gets the GPUs: by what they could hold before there is an image, then by trying.

The rule is the app's (docs/decisions/0203): where the GPUs could hold the wanted model and cannot be used, the start
ends with the reason; where they are too small, the small model is served and a line says why.
"""

from __future__ import annotations

import os
import subprocess

from stack.config import Config
from stack.containers import weights
from stack.host.gpus import MODEL, SMALL, Gpus
from stack.protocol import StackError

ON_PURPOSE = f"MODEL={SMALL} serves the small model on purpose."
TOOLKIT = "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html"


def wants_gpus(config: Config, found: Gpus) -> bool:
    """Whether the GPU image is worth a try; says why when it is not. Raises StackError by the rule."""
    if config.remote or config.model == SMALL or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    if not found.found:
        return _without_a_list(config, found)
    if could_hold(config, found):
        return True
    if config.model != "auto":
        raise StackError(f"{config.model} does not fit the GPUs ({found}). {_on_the_cpu(config)}")
    print(f"{MODEL} does not fit the GPUs ({found}): serving {SMALL} on the CPU", flush=True)
    return False


def cards_of_vllm(config: Config, found: Gpus) -> int:
    """How many cards share the model in vLLM's container: a number that its attention heads can be divided by.

    Raises StackError where it cannot be served so.
    """
    if config.model not in ("auto", MODEL):
        raise StackError(f"MODEL={config.model}: ENGINE=vllm serves {MODEL}.")
    if not found.found:
        raise StackError(f"ENGINE=vllm needs NVIDIA's GPUs; {found.problem or 'no GPU was found'}.")
    for number in (16, 8, 4, 2, 1):
        some = Gpus(found.found[:number])
        if len(some.found) == number and some.could_hold_the_model(config.gpu_reserve):
            return number
    raise StackError(f"{MODEL} does not fit the GPUs ({found}).")


def refuse_gpus_that_containers_cannot_use(image: str, otherwise: str) -> None:
    """Start a container with GPUs: it takes a second, and building the image for them minutes. Raises StackError."""
    probe = ["docker", "run", "--rm", "--gpus", "all", "--network", "none", "--entrypoint", "true", image]
    done = subprocess.run(probe, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("See 'docker run")]
        reason = said[-1] if said else "no reason given"
        raise StackError(
            f"The model fits the GPUs, but containers cannot use them: {reason}\n"
            f"Install NVIDIA's container toolkit ({TOOLKIT}), run `nvidia-ctk runtime configure` and restart Docker. "
            f"{otherwise}"
        )


def _without_a_list(config: Config, found: Gpus) -> bool:
    if found.broken:
        raise StackError(f"{found.problem}. Repair the driver (`nvidia-smi` has to list the GPUs). {ON_PURPOSE}")
    if config.model == MODEL:
        raise StackError(f"MODEL={MODEL}: containers serve it only on GPUs; {found.problem or 'no GPU was found'}.")
    if found.problem:
        print(f"{found.problem}: serving on the CPU", flush=True)
    return False


def could_hold(config: Config, found: Gpus) -> bool:
    """A rule of thumb; the image's own plan has the last word."""
    if not weights.is_folder(config.model):
        return found.could_hold_the_model(config.gpu_reserve)
    return found.could_hold(weights.size(weights.path_of(config)), config.gpu_reserve)


def _on_the_cpu(config: Config) -> str:
    if weights.is_folder(config.model):
        return "To run it on the CPU, start with CUDA_VISIBLE_DEVICES set to nothing."
    return ON_PURPOSE
