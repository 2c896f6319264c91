"""Which tokens make a model one that fills in the middle."""

import pytest

from app.serving.prompt.infill import infill_of


@pytest.mark.parametrize(
    ("tokens", "prompt"),
    [
        (
            ["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"],
            "<｜fim▁begin｜>before<｜fim▁hole｜>after<｜fim▁end｜>",
        ),
        (
            ["<|fim_pad|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_prefix|>"],
            "<|fim_prefix|>before<|fim_suffix|>after<|fim_middle|>",
        ),
        (["<fim_prefix>", "<fim_middle>", "<fim_suffix>"], "<fim_prefix>before<fim_suffix>after<fim_middle>"),
    ],
    ids=["DeepSeek", "Qwen", "StarCoder"],
)
def test_each_known_form(tokens: list[str], prompt: str) -> None:
    form = infill_of(tokens)
    assert form is not None
    assert form.prompt("before", "after") == prompt


@pytest.mark.parametrize(
    "tokens", [[], ["<fim_prefix>", "<fim_suffix>"], ["<fim_prefix>", "<|fim_suffix|>", "<fim_middle>"]]
)
def test_half_a_form_is_none(tokens: list[str]) -> None:
    assert infill_of(tokens) is None
