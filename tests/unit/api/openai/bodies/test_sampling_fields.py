"""The fields that both of OpenAI's routes share: bounded, named when wrong, and never quoted."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.openai.bodies.sampling_fields import SamplingFields
from app.contract.engine import ModelInfo, SamplingDefaults
from app.contract.errors import InvalidRequest, ModelNotFound, UnsupportedField
from app.contract.requests import SamplingParams

MODEL = ModelInfo(
    name="served",
    context_tokens=1000,
    stop_tokens=frozenset({2}),
    vocabulary=100,
    defaults=SamplingDefaults(temperature=0.3, top_p=0.9, top_k=7),
)


def sampling(**fields: Any) -> SamplingParams:
    return SamplingFields.parse(fields).sampling(MODEL, None)


def test_what_is_left_open_is_the_models_own() -> None:
    params = sampling(seed=1)
    assert params == SamplingParams(seed=1, temperature=0.3, top_p=0.9, top_k=7)


def test_what_is_said_holds() -> None:
    said: dict[str, Any] = {"temperature": 1.5, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.2}
    penalties: dict[str, Any] = {"presence_penalty": -1.5, "frequency_penalty": 2, "min_tokens": 4}
    params = sampling(seed=9, logit_bias={"5": -100, "99": 1.5}, **said, **penalties)
    assert params == SamplingParams(seed=9, logit_bias={5: -100.0, 99: 1.5}, **said, **penalties)


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-300, 0.00009])
def test_what_is_too_cold_to_divide_by_is_greedy(temperature: float) -> None:
    assert sampling(temperature=temperature).greedy


def test_top_k_is_switched_off_by_zero_and_by_minus_one() -> None:
    assert sampling(top_k=0).top_k == sampling(top_k=-1).top_k == 0


def test_null_is_absent_for_every_field() -> None:
    assert SamplingFields.parse(dict.fromkeys(SamplingFields.model_fields)) == SamplingFields.parse({})
    assert SamplingFields.parse({"something_of_tomorrow": None}) == SamplingFields.parse({})


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("temperature", 2.1, "must be less than or equal to 2"),
        ("temperature", -0.1, "must be greater than or equal to 0"),
        ("temperature", "1", "must be a number"),
        ("temperature", True, "must be a number"),
        ("top_p", -0.1, "must be greater than or equal to 0"),
        ("top_p", 1.1, "must be less than or equal to 1"),
        ("top_k", -2, "must be greater than or equal to -1"),
        ("top_k", 1.5, "must be an integer"),
        ("min_p", 1.5, "must be less than or equal to 1"),
        ("repetition_penalty", 0, "must be greater than or equal to 0.01"),
        ("presence_penalty", 2.5, "must be less than or equal to 2"),
        ("frequency_penalty", -2.5, "must be greater than or equal to -2"),
        ("max_tokens", 0, "must be greater than or equal to 1"),
        ("max_tokens", -2, "must be greater than or equal to 1"),
        ("max_tokens", 1.5, "must be an integer"),
        ("max_tokens", 10**9, "must be less than or equal to 1000000"),
        ("min_tokens", -1, "must be greater than or equal to 0"),
        ("ignore_eos", "yes", "must be true or false"),
        ("seed", 2**63, "must be less than"),
        ("seed", 0.5, "must be an integer"),
        ("n", 0, "must be greater than or equal to 1"),
        ("n", 17, "must be less than or equal to 16"),
        ("stop", 5, "must be a string or a list of up to 16 strings"),
        ("stop", ["a"] * 17, "must be a string or a list of up to 16 strings"),
        ("stop", ["a", 5], "must be a string or a list of up to 16 strings"),
        ("stop", ["secret" * 100], "must have strings of at most 256 characters"),
        ("logit_bias", [1], "must be an object of up to 300 entries"),
        ("logit_bias", {str(i): 1 for i in range(301)}, "must be an object of up to 300 entries"),
        ("logit_bias", {"secret": 1}, "must map token ids"),
        ("logit_bias", {"-1": 1}, "must map token ids"),
        ("logit_bias", {"٣": 1}, "must map token ids"),
        ("logit_bias", {"5": 100.5}, "must map token ids"),
        ("logit_bias", {"5": "1"}, "must map token ids"),
        ("logit_bias", {"5": True}, "must map token ids"),
        ("logit_bias", {"5": 1, "05": 2}, "must not name a token id twice"),
        ("user", "x" * 513, "must have at most 512 characters"),
        ("user", 5, "must be a string"),
        ("metadata", {"secret": 5}, "must be an object of up to 16 entries"),
        ("metadata", {"secret" * 20: "x"}, "must be an object of up to 16 entries"),
        ("metadata", {"a": "x" * 513}, "must be an object of up to 16 entries"),
        ("metadata", {str(i): "" for i in range(17)}, "must be an object of up to 16 entries"),
        ("metadata", ["secret"], "must be an object of up to 16 entries"),
        ("store", "yes", "must be true or false"),
        ("prediction", "secret", "must be an object"),
        ("stream", "true", "must be true or false"),
        ("stream_options", [], "must be an object"),
    ],
)
def test_wrong_values_name_the_field_and_not_the_value(field: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        SamplingFields.parse({field: value, "stream": True} if field == "stream_options" else {field: value})
    assert refusal.value.message.startswith(f"{field} {said}")
    assert refusal.value.param == field
    assert "secret" not in refusal.value.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("functions", [{}]), ("function_call", {"name": "f"}), ("reasoning_effort", "high"), ("best_of", 2)),
        *(("use_beam_search", True), ("typical_p", 0.5), ("length_penalty", 1.5), ("priority", 1)),
        *(("skip_special_tokens", False), ("do_sample", False), ("add_generation_prompt", False)),
        *(("web_search_options", {}), ("guided_json", {}), ("n_predict", 5), ("thinking", {"type": "enabled"})),
        *(("mirostat", 2), ("n_probs", True), ("grammar", "x"), ("tomorrow", 0), ("tomorrow", True)),
    ],
)
def test_what_would_change_the_answer_and_is_not_there_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(UnsupportedField) as refusal:
        SamplingFields.parse({field: value})
    assert refusal.value.param == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("functions", []), ("function_call", "auto"), ("reasoning_effort", "none"), ("best_of", 1)),
        *(("use_beam_search", False), ("typical_p", 1.0), ("length_penalty", 1), ("priority", 0)),
        *(("skip_special_tokens", True), ("bad_words", []), ("stop_token_ids", []), ("guided_regex", "")),
        *(("thinking", {"type": "disabled"}), ("include_reasoning", True), ("repeat_last_n", 64), ("n_predict", -1)),
        *(("cache_prompt", True), ("mirostat", 0), ("chat_template_kwargs", {}), ("tomorrow", False)),
    ],
)
def test_what_asks_for_nothing_is_taken(field: str, value: Any) -> None:
    assert SamplingFields.parse({field: value}) == SamplingFields.parse({})


def test_a_limit_of_minus_one_is_none() -> None:
    assert SamplingFields.parse({"max_tokens": -1}).token_limit is None


def test_numbers_without_a_fraction_are_whole() -> None:
    fields = SamplingFields.parse({"max_tokens": 16.0, "min_tokens": 1.0, "n": 2.0, "top_k": 40.0, "seed": 7.0})
    assert (fields.token_limit, fields.min_tokens, fields.n, fields.top_k, fields.seed) == (16, 1, 2, 40, 7)


@pytest.mark.parametrize(("stop", "left"), [("", []), ([], []), (["", "a"], ["a"])])
def test_an_empty_stop_string_stops_nothing(stop: Any, left: list[str]) -> None:
    assert SamplingFields.parse({"stop": stop}).stop == left


def test_no_share_of_the_probability_is_the_most_likely_token() -> None:
    assert 0 < sampling(top_p=0).top_p < 1e-6


def test_an_unknown_stream_option_is_named_with_its_place() -> None:
    with pytest.raises(UnsupportedField) as refusal:
        SamplingFields.parse({"stream": True, "stream_options": {"new": 1}})
    assert refusal.value.param == "stream_options.new"


def test_without_a_stream_its_options_have_no_effect() -> None:
    assert not SamplingFields.parse({"stream_options": {"include_usage": True}}).stream


def test_fewest_tokens_are_not_above_most() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        SamplingFields.parse({"min_tokens": 6, "max_tokens": 5})
    assert refusal.value.param == "min_tokens"
    SamplingFields.parse({"min_tokens": 5, "max_tokens": 5})


def test_a_biased_token_is_in_the_vocabulary() -> None:
    with pytest.raises(InvalidRequest, match="0 to 99") as refusal:
        sampling(logit_bias={"100": 1})
    assert refusal.value.param == "logit_bias"


def test_only_the_served_model_is_here() -> None:
    for name in ("served", "", None):
        SamplingFields.parse({"model": name}).refuse_other_models(MODEL)
    with pytest.raises(ModelNotFound) as refusal:
        SamplingFields.parse({"model": "secret"}).refuse_other_models(MODEL)
    assert refusal.value.param == "model"
    assert "secret" not in refusal.value.message


@given(st.integers(-(2**63), 2**63 - 1).filter(lambda seed: seed != -1))
def test_every_seed_is_one_of_the_engines_and_repeats(seed: int) -> None:
    params = sampling(seed=seed)
    assert 0 <= params.seed < 2**63
    assert params == sampling(seed=seed)


def test_without_a_seed_every_request_gets_its_own() -> None:
    assert len({sampling().seed for _ in range(5)}) == 5
    assert len({sampling(seed=-1).seed for _ in range(5)}) == 5
