"""Which machine the bounds are for, and rows that are held against them only there.

The bounds themselves stand where each figure is measured. Those that hold on any card (launches, waits, memory) need
nothing of this.
"""

import re
from dataclasses import replace

from app.models.catalogue import DEEPSEEK
from bench.gpu_check.bench import Bench
from bench.gpu_check.report import Row


def bounded(bench: Bench, row: Row, bound: str, *, held: bool) -> Row:
    """The row with its verdict, or with the reason why it has none. `bound` is it in words."""
    reason = _no_verdict(bench)
    note = "; ".join(part for part in (row.note, f"bound: {bound}{reason and f', not judged {reason}'}") if part)
    return replace(row, must=True, ok=None if reason else held, note=note)


def _no_verdict(bench: Bench) -> str:
    """Why a figure of this run has no verdict. Empty on one H100 or H200 with the whole model."""
    layers, whole = bench.config.num_hidden_layers, DEEPSEEK.config()["num_hidden_layers"]
    if not bench.gpus:
        return "without a GPU"
    if len(bench.gpus) > 1 or not re.search(r"\bH[12]00\b", bench.gpus[0].name):
        return "but on one H100 or H200"
    return "" if layers == whole else f"with {layers} of {whole} layers"
