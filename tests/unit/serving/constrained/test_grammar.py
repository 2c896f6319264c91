"""Whatever a model chooses of what a grammar allows, a finished answer validates against its schema."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, validate

from app.contract.errors import GenerationFailed, InvalidRequest
from app.contract.requests import GenerationRequest, JsonFormat, Operation, SamplingParams
from app.engine.grammars.compiler import Grammars
from app.engine.grammars.constraint import Constraint
from app.engine.scripted import SCRIPTED_MODEL
from app.serving.prompt.tokenizer import ModelTokenizer
from tests.support.grammars import constraint_of
from tests.support.schemas import HOSTILE, REFUSED, SCHEMAS
from tests.support.walking import Walker, takes


def request(schema: dict[str, Any] | None, **changes: Any) -> GenerationRequest:
    settings: dict[str, Any] = {"sampling": SamplingParams(seed=1), "response_format": JsonFormat(schema)} | changes
    return GenerationRequest(id="r", operation=Operation.CHAT, **settings)


def constraint(grammars: Grammars, schema: dict[str, Any] | None) -> Constraint:
    made = constraint_of(request(schema), grammars)
    assert made is not None
    return made


def test_a_free_answer_has_no_constraint(grammars: Grammars) -> None:
    assert constraint_of(request(None, response_format=None), grammars) is None


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_a_random_walk_validates(
    grammars: Grammars, walker: Walker, model_tokenizer: ModelTokenizer, schema: dict[str, Any]
) -> None:
    finished = 0
    for seed in range(12):
        tokens, ended = walker.walk(constraint(grammars, schema), seed)
        if ended:
            finished += 1
            text = model_tokenizer.published.decode(tokens)
            validate(json.loads(text), schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert finished >= 4  # or nothing was tested


def test_any_object(grammars: Grammars, walker: Walker, model_tokenizer: ModelTokenizer) -> None:
    ended = [walker.walk(constraint(grammars, None), seed) for seed in range(12)]
    texts = [model_tokenizer.published.decode(tokens) for tokens, end in ended if end]
    assert texts
    assert all(isinstance(json.loads(text), dict) for text in texts)


def test_the_empty_schema_is_any_value(grammars: Grammars, model_tokenizer: ModelTokenizer) -> None:
    one = constraint(grammars, {})
    one.accept(model_tokenizer.encode_text("7")[0])
    assert one.allowed()[0] & 0b100


def test_there_is_no_room_for_endless_spaces(grammars: Grammars, model_tokenizer: ModelTokenizer) -> None:
    one = constraint(grammars, {"type": "array", "items": {"type": "integer"}})
    for token in model_tokenizer.encode_text("[1, 2"):
        one.accept(token)
    mask = one.allowed()
    spaces = [t for t in range(SCRIPTED_MODEL.vocabulary) if model_tokenizer.published.decode([t]).isspace()]
    assert not [t for t in spaces if mask[t // 8] >> t % 8 & 1]


def test_the_end_is_allowed_where_the_grammar_may_end_and_nowhere_else(
    grammars: Grammars, model_tokenizer: ModelTokenizer
) -> None:
    one = constraint(grammars, {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]})
    for token in model_tokenizer.encode_text('{"a": true}'):
        assert not one.allowed()[0] & 0b100
        one.accept(token)
    mask = one.allowed()
    assert mask[0] == 0b100
    assert not any(mask[1:])


@pytest.mark.parametrize(
    ("schema", "fitting", "beyond"),
    [
        ({"type": "object", "maxProperties": 2}, '{"a": 1, "b": 2}', '{"a": 1, "b": 2, "c": 3}'),
        ({"type": "object", "minProperties": 1}, '{"a": 1}', "{}"),
        ({"type": "array", "maxItems": 2}, "[1, 2]", "[1, 2, 3]"),
        ({"type": "array", "minItems": 2}, "[1, 2]", "[1]"),
        ({"type": "string", "maxLength": 2}, '"ab"', '"abc"'),
        ({"type": "string", "minLength": 2}, '"ab"', '"a"'),
        ({"type": "integer", "maximum": 12}, "12", "13"),
        ({"type": "integer", "exclusiveMinimum": 12}, "13", "12"),
    ],
)
def test_a_bound_is_where_the_schema_says(
    grammars: Grammars, model_tokenizer: ModelTokenizer, schema: dict[str, Any], fitting: str, beyond: str
) -> None:
    end = SCRIPTED_MODEL.stop_tokens
    assert takes(constraint(grammars, schema), [*model_tokenizer.encode_text(fitting), *end])
    assert not takes(constraint(grammars, schema), [*model_tokenizer.encode_text(beyond), *end])


def test_a_token_that_is_not_allowed_is_an_error(grammars: Grammars, model_tokenizer: ModelTokenizer) -> None:
    one = constraint(grammars, {"type": "boolean"})
    with pytest.raises(GenerationFailed):
        one.accept(model_tokenizer.encode_text("x")[0])


def test_every_request_has_its_own_place(grammars: Grammars, model_tokenizer: ModelTokenizer) -> None:
    schema = {"enum": ["left", "right"]}
    first, second = constraint(grammars, schema), constraint(grammars, schema)
    before = second.allowed()
    for token in model_tokenizer.encode_text('"left'):
        first.accept(token)
    assert second.allowed() == before


@pytest.mark.parametrize(("keyword", "schema"), REFUSED)
def test_what_cannot_be_enforced_is_refused_by_name(grammars: Grammars, keyword: str, schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        constraint_of(request({"type": "object", "properties": {"held": schema}}), grammars)
    assert f" {keyword} " in f"{refusal.value.message.rstrip('.')} "
    assert refusal.value.param == "response_format"
    assert "sesame" not in refusal.value.message


@pytest.mark.timeout(30)  # unbounded, most of these take longer than anybody waits
@pytest.mark.parametrize("schema", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_schema_costs_little(grammars: Grammars, walker: Walker, schema: dict[str, Any]) -> None:
    outcome = "followed"
    try:
        walker.walk(constraint(grammars, schema), 1, longest=60)
    except (InvalidRequest, GenerationFailed) as refusal:
        outcome = refusal.message
    assert "sesame" not in outcome


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("ignore_eos", {"ignore_eos": True}),
        ("min_tokens", {"sampling": SamplingParams(seed=1, min_tokens=5)}),
    ],
)
def test_nothing_else_decides_where_a_constrained_answer_ends(
    grammars: Grammars, field: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        constraint_of(request({"type": "integer"}, **changes), grammars)
    assert refusal.value.param == field
