"""Fill-in-the-middle: the control tokens of known models, and the prompts made of them.

Every known form has the same order: begin, the text before the gap, hole, the text after it, end. The model's answer
is the text of the gap.
"""

from collections.abc import Container
from typing import NamedTuple


class Infill(NamedTuple):
    begin: str
    hole: str
    end: str

    def prompt(self, before: str, after: str) -> str:
        return f"{self.begin}{before}{self.hole}{after}{self.end}"


_FORMS = (
    Infill("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek's bars are full-width
    Infill("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    Infill("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
)


def infill_of(control_tokens: Container[str]) -> Infill | None:
    """The form whose tokens are all in the tokenizer; None when its model cannot fill in the middle."""
    return next((form for form in _FORMS if all(token in control_tokens for token in form)), None)
