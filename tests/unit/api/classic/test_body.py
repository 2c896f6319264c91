"""The classic body: what is falsy means the default; what is wrong is named and never quoted."""

from typing import Any

import pytest

from app.api.classic.body import ClassicBody
from app.api.classic.routes import generation_request
from app.contract.errors import InvalidRequest, UnsupportedField
from app.contract.requests import Message

DEFAULTS = {
    "history": [],
    "max_length": 1024,
    "top_k": 5,
    "top_p": 0.7,
    "temperature": 0.95,
    "repetition_penalty": 1.1,
    "stream": False,
}


@pytest.mark.parametrize("falsy", [None, 0, 0.0, "", [], {}, False])
def test_falsy_means_the_default(falsy: Any) -> None:
    body = ClassicBody.parse({"prompt": "x"} | dict.fromkeys(DEFAULTS, falsy))
    assert body.model_dump(exclude={"prompt", "seed"}) == DEFAULTS
    assert body == ClassicBody.parse({"prompt": "x"})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("prompt", "", "prompt must not be empty"),
        ("prompt", None, "prompt must be a string"),
        ("prompt", ["secret"], "prompt must be a string"),
        ("history", "secret", "history must be a list"),
        ("history", [["secret"]], r"history\[0\] must have two strings"),
        ("history", [["a", "b"], ["a", "b", "secret"]], r"history\[1\] must have two strings"),
        ("history", [["a", None]], r"history\[0\]\[1\] must be a string"),
        ("history", [{"secret": 1}], r"history\[0\] must be a list"),
        ("max_length", True, "max_length must be an integer"),
        ("max_length", "secret", "max_length must be an integer"),
        ("max_length", 1.5, "max_length must be an integer"),
        ("max_length", -1, "max_length must be greater than or equal to 1"),
        ("max_length", 10**9, "max_length must be less than or equal to 1000000"),
        ("max_length", 10**30, "max_length must be less than or equal to 1000000"),
        ("top_k", -5, "top_k must be greater than or equal to 1"),
        ("top_p", 1.1, "top_p must be less than or equal to 1"),
        ("top_p", True, "top_p must be a number"),
        ("temperature", -1, "temperature must be greater than or equal to 0.0001"),
        ("temperature", 1e-300, "temperature must be greater than or equal to 0.0001"),
        ("temperature", "0.5", "temperature must be a number"),
        ("repetition_penalty", 10**300, "repetition_penalty must be less than or equal to 100"),
        ("seed", True, "seed must be an integer"),
        ("seed", -2, "seed must be greater than or equal to -1"),
        ("seed", 2**63, "seed must be less than"),
        ("stream", "secret", "stream must be true or false"),
        ("stream", 1, "stream must be true or false"),
    ],
)
def test_wrong_values_name_the_field_and_not_the_value(field: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{said}") as refusal:
        ClassicBody.parse({"prompt": "x", field: value})
    assert str(refusal.value.param).partition("[")[0] == field
    assert "secret" not in refusal.value.message


def test_a_missing_prompt_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"^prompt is required"):
        ClassicBody.parse({})


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedField, match="num_beams"):
        ClassicBody.parse({"prompt": "x", "num_beams": 4})
    with pytest.raises(UnsupportedField) as long:
        ClassicBody.parse({"prompt": "x", "\n" + "long" * 1000: 4})
    assert len(long.value.message) < 120
    assert "\n" not in long.value.message


def test_history_becomes_alternating_turns() -> None:
    body = ClassicBody.parse({"prompt": "c", "history": [["a", "b"]], "seed": 0, "max_length": 7, "stream": True})
    generation = generation_request(body, "id", "team")
    assert generation.messages == (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    assert (generation.sampling.seed, generation.max_tokens, generation.tenant) == (0, 7, "team")
    assert (generation.sampling.top_k, generation.sampling.top_p) == (5, 0.7)
    assert (generation.sampling.temperature, generation.sampling.repetition_penalty) == (0.95, 1.1)


def test_without_a_seed_every_request_gets_its_own() -> None:
    body = ClassicBody.parse({"prompt": "c"})
    seeds = {generation_request(body, "id", "team").sampling.seed for _ in range(5)}
    assert len(seeds) == 5
    minus = generation_request(ClassicBody.parse({"prompt": "a", "seed": -1}), "id", "team").sampling.seed
    assert 0 <= minus not in seeds
    assert all(0 <= seed < 2**63 for seed in seeds)
