"""How far a kernel's output is from exact numbers, as a finding."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bench.gpu_check.report import Row

PRODUCTS = {torch.float32: 1e-4, torch.bfloat16: 0.02}
"""Bounds by the type, for kernels whose inner numbers are rounded, too."""

ROUNDED = {torch.float32: 1e-5, torch.bfloat16: 0.005}
"""The same for kernels that round once, at their end."""


def relative(output: Tensor, expected: Tensor) -> float:
    """The norm of the difference, as a part of the expected norm. NaN where a number of the output is."""
    return float((output.double() - expected).norm() / expected.norm())


def worst(name: str, errors: Mapping[str, float], bound: float, note: str = "by the norm, to float64") -> Row:
    """One finding of many cases: the largest error and its case. Fails if any is not below the bound."""
    case = max(errors, key=lambda each: _order(errors[each]))
    ok = all(error < bound for error in errors.values())
    return Row(
        name, errors[case], ok=ok, note=f"worst of {len(errors)}, at {case}; {note}", detail={"errors": dict(errors)}
    )


def _order(error: float) -> float:
    """What is not a number is worse than all."""
    return math.inf if math.isnan(error) else error
