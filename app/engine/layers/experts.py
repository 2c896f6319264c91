"""Chooses the implementation of the experts by the number of tokens in a step.

`batched_mm` copies the chosen experts' weights for every token: best for one or two tokens, far too slow for sixteen.
`grouped_mm` sorts the tokens by expert; `eager` loops over the experts that were hit. On a GPU `triton` is ours
(`triton_experts.py`), for small steps. Where one overtakes the other depends on the model and the device, so it is
measured at warm-up. See docs/decisions/0602-experts.md.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

_log = logging.getLogger(__name__)

IMPLEMENTATIONS = ("grouped_mm", "batched_mm", "eager")
"""Those of transformers 5.23 that need no kernel from elsewhere."""

OURS = "triton"

SIZES = (1, 8, 64, 512)
"""Numbers of tokens that are measured: one user, a few, a full batch, a prompt chunk."""

TRIED = (1, 16, 32, 64, 200, 1024)
"""Numbers of tokens at which our kernels are compared with transformers: one for each form and each size of tiles."""

TOLERANCE = 0.02
"""How far our kernels may be from transformers, by the norm of the difference: bfloat16 rounds to 0.4 %."""

COPY_LIMIT = 512 * 2**20
"""Bytes that `batched_mm` may copy: it must not take the memory that is kept free for activations."""

Table = Mapping[int, Mapping[str, float]]
"""Seconds of one block of experts, by number of tokens and implementation."""


class ExpertsPolicy:
    """The fastest measured implementation for every number of tokens. All layers of a model share the config that
    selects it."""

    def __init__(self, config: Any, table: Table) -> None:
        self._config = config
        self._fastest = {tokens: min(times, key=times.__getitem__) for tokens, times in table.items() if times}

    def implementation_for(self, tokens: int) -> str:
        """The fastest at the measured size nearest to `tokens` by ratio."""
        nearest = min(self._fastest, key=lambda size: max(size / tokens, tokens / size))
        return self._fastest[nearest]

    def apply(self, tokens: int) -> None:
        """Select the implementation for the next forward pass, over `tokens` tokens in all."""
        name = self.implementation_for(tokens)
        if self._config._experts_implementation != name:
            # transformers' public switch checks the whole model at every call, which is too slow here.
            self._config._experts_implementation = name


@torch.inference_mode()
def choose(model: nn.Module, sizes: Sequence[int] = SIZES, seconds: float = 1.0) -> ExpertsPolicy | None:
    """Measure the model's experts for about `seconds`, and log the result. None for a model without experts."""
    blocks = _one_on_each_device(model)
    if not blocks:
        return None
    table = measure(blocks, sizes, seconds)
    policy = ExpertsPolicy(blocks[0].config, table)
    _log.info(
        "experts measured",
        extra={
            "chosen": {str(tokens): policy.implementation_for(tokens) for tokens in sizes},
            "milliseconds": {
                str(tokens): {name: round(1000 * value, 3) for name, value in times.items()}
                for tokens, times in table.items()
            },
        },
    )
    return policy


def measure(blocks: Sequence[Any], sizes: Sequence[int], seconds: float) -> Table:
    """Time the first of these blocks of experts on its device, with tokens spread over all experts at random.

    Our kernels are among the implementations where they run right for every block. The implementation that was set is
    set again afterwards. Implementations that fail are left out.
    """
    config = blocks[0].config
    before = config._experts_implementation
    try:
        names = [*IMPLEMENTATIONS, OURS] if all(map(_use_ours, blocks)) else [*IMPLEMENTATIONS]
        share = seconds / (len(sizes) * len(names))
        return {tokens: _measure_size(blocks[0], names, tokens, share) for tokens in sizes}
    finally:
        config._experts_implementation = before


def _use_ours(experts: Any) -> bool:
    """Register our kernels, where they compute these experts and run right. The model's implementation is changed."""
    weight: Tensor = experts.gate_up_proj
    plain = experts.has_gate and experts.is_concatenated and not (experts.has_bias or experts.is_transposed)
    if weight.device.type != "cuda" or find_spec("triton") is None or not plain or not _is_silu(experts.act_fn):
        return False
    try:
        from app.engine.layers.triton_experts import experts_forward  # noqa: PLC0415  # it needs Triton

        experts.config._experts_implementation = "eager"
        error = max(_difference(experts, experts_forward, tokens) for tokens in TRIED)
    except Exception as refused:  # noqa: BLE001  # compilers and drivers raise errors of many classes
        _log.warning("our kernels for experts do not run here", extra={"reason": repr(refused)})
        return False
    if not error <= TOLERANCE:
        _log.error("our kernels for experts are wrong here: they are not used", extra={"error": error})
        return False
    ALL_EXPERTS_FUNCTIONS.register(OURS, experts_forward)
    return True


def _difference(experts: Any, ours: Callable[..., Tensor], tokens: int) -> float:
    """Of our kernels from the implementation that is set, by the norm."""
    inputs = _inputs(experts, tokens)
    expected = experts(*inputs).float()
    return float((ours(experts, *inputs).float() - expected).norm() / expected.norm())


def _is_silu(activation: Any) -> bool:
    """transformers has a class of its own beside torch's."""
    probe = torch.tensor([-1.5, 0.5])
    return bool(torch.allclose(activation(probe), torch.nn.functional.silu(probe)))


def _measure_size(experts: Any, names: Sequence[str], tokens: int, seconds: float) -> dict[str, float]:
    inputs = _inputs(experts, tokens)
    times = {}
    for name in names:
        if name == "batched_mm" and _copied_bytes(experts, inputs[1].numel()) > COPY_LIMIT:
            continue
        experts.config._experts_implementation = name
        try:
            times[name] = _best_time(lambda: experts(*inputs), experts.gate_up_proj.device, seconds)
        except (RuntimeError, NotImplementedError) as error:  # no kernel for this device or type, or no memory
            _log.warning("an implementation of the experts failed", extra={"name_": name, "reason": str(error)})
    return times


def _best_time(run: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """The shortest of the runs that fit into `seconds`, at least one, after one that is not counted."""

    def wait() -> None:
        if device.type != "cpu":  # for this device: the current one may be another, and idle
            torch.get_device_module(device).synchronize(device)

    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while best == float("inf") or time.perf_counter() < end:
        wait()
        begun = time.perf_counter()
        run()
        wait()
        best = min(best, time.perf_counter() - begun)
    return best


def _inputs(experts: Any, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, chosen experts and their weights, as the router gives them."""
    weight: Tensor = experts.gate_up_proj
    top_k = experts.config.num_experts_per_tok
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(tokens, experts.num_experts, generator=generator).topk(top_k).indices
    hidden = torch.randn(tokens, experts.hidden_dim, generator=generator)
    weights = torch.full((tokens, top_k), 1.0 / top_k)
    return hidden.to(weight), chosen.to(weight.device), weights.to(weight.device)


def _copied_bytes(experts: Any, pairs: int) -> int:
    """What `batched_mm` copies at most at once: the larger weight, for each pair of a token and an expert."""
    weights = (experts.gate_up_proj, experts.down_proj)
    largest: int = max(weight[0].numel() * weight.element_size() for weight in weights)
    return pairs * largest


def _one_on_each_device(model: nn.Module) -> list[Any]:
    """The first module on each device that transformers made switchable between implementations."""
    found: dict[torch.device, Any] = {}
    for module in model.modules():
        if hasattr(module, "gate_up_proj") and hasattr(module, "num_experts") and hasattr(module, "is_transposed"):
            found.setdefault(cast("Tensor", module.gate_up_proj).device, module)
    return list(found.values())
