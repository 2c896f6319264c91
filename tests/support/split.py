"""A decoder's layers on two simulated GPUs."""

from collections.abc import Sequence
from typing import cast

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import nn

from tests.support.simgpu import SimTensor, gpus


def place(module: nn.Module, device: torch.device) -> None:
    """Move a module's parameters and buffers onto a device, in place and without a copy of their memory."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                moved = SimTensor(parameter.data, device)
                part._parameters[name] = nn.Parameter(moved, requires_grad=False)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = SimTensor(buffer, device)


def split(model: nn.Module, boundary: int) -> dict[str, torch.device]:
    """Place a decoder with its first `boundary` layers on the first GPU and the rest, norm and head on the second.

    Returns its device map. Without hooks: the decoder moves the hidden state.
    """
    first, second = gpus()
    layers = len(cast("Sequence[nn.Module]", cast("nn.Module", model.model).layers))
    device_map = {"model.embed_tokens": first, "model.rotary_emb": first}
    device_map |= {f"model.layers.{i}": first if i < boundary else second for i in range(layers)}
    device_map |= {"model.norm": second, "lm_head": second}
    for name, device in device_map.items():
        place(model.get_submodule(name), device)
    return device_map


def split_with_hooks(model: nn.Module, boundary: int) -> dict[str, torch.device]:
    """The same, with accelerate's hooks, as `from_pretrained(device_map=…)` leaves a model."""
    device_map = split(model, boundary)
    for name, device in device_map.items():
        hook = AlignDevicesHook(execution_device=device, skip_keys=["past_key_values"])
        add_hook_to_module(model.get_submodule(name), hook)
    return device_map
