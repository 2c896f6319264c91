"""The committed runs on real GPUs as a part of bench/RESULTS.md."""

from collections.abc import Sequence

from bench.gpu_check.report import Check, Row

_HEAD = """## On real GPUs

Written by `make gpu-check` on a machine with the card: the product's own start-up and engine on random weights in
DeepSeek-Coder-V2-Lite's real dimensions. Unlike the figures above these are not ratios of contestants; ceilings and
plain transformers' `generate` are measured in the same run. Kernels and parts of a step are in `results/gpu/`.

The runs of 2026-11-27 computed fewer sequences than their rows say at two points, because some had ended before the
last one's prompt was computed: about 12 of 32 at a context of 2,048 (also in the captured steps), and about 45 of 64
at 512. Those times are too short for 32 and 64 sequences. The check now fails where a sequence ends early.
"""


def markdown(checks: Sequence[Check]) -> str:
    return "\n".join([_HEAD, *(_card(check) for check in checks)])


def _card(check: Check) -> str:
    lines = [f"### {check.card}\n", "| measure | value | | note |", "| --- | --- | --- | --- |"]
    for section in check.sections:
        if section.error:
            lines.append(f"| {section.name} | **failed** | | {_cell(section.error)} |")
        lines += [_line(row) for row in section.rows]
    lines.append(f"\n- {check.commit}, {check.date}; {sum(s.seconds for s in check.sections):.0f} s.\n")
    return "\n".join(lines)


def _line(row: Row) -> str:
    value = f"{row.value:,.4g}" if isinstance(row.value, float) else row.value
    held = {None: "", True: "yes", False: "**no**"}[row.ok]
    return f"| {_cell(row.name)} | {value} {row.unit} | {held} | {_cell(row.note)} |"


def _cell(text: str) -> str:
    return text.replace("|", "/")
