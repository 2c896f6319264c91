"""What of other people's schemas is enforced: all of it where that is demanded, else what can be."""

import json
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError

from app.contract.errors import InvalidRequest
from app.contract.requests import JsonGrammar
from app.engine.grammars.compiler import Grammars
from app.serving.constrained.json_schema import enforced
from app.serving.constrained.schema_text import Origin
from app.serving.prompt.tokenizer import ModelTokenizer
from tests.support.generated_schemas import GENERATED, Generated
from tests.support.walking import Walker, takes

ORIGIN = Origin("tools", "lookup")


def _validate(value: Any, schema: dict[str, Any]) -> None:
    validator = Draft7Validator if '"items": [' in json.dumps(schema) else Draft202012Validator
    validator(schema, format_checker=validator.FORMAT_CHECKER).validate(value)


class Trial:
    def __init__(self, grammars: Grammars, tokenizer: ModelTokenizer) -> None:
        self._grammars, self._tokenizer = grammars, tokenizer

    def allows(self, schema: dict[str, Any], value: Any, *, strict: bool = False) -> bool:
        constraint = self._grammars.compile(grammar(schema, strict=strict))
        text = json.dumps(value, ensure_ascii=False)
        return takes(constraint, [*self._tokenizer.encode_text(text), 2])


def grammar(schema: dict[str, Any], *, strict: bool = False) -> JsonGrammar:
    return JsonGrammar(schema=json.dumps(enforced(schema, ORIGIN, strict=strict).schema), param="tools")


@pytest.fixture(scope="module")
def trial(grammars: Grammars, model_tokenizer: ModelTokenizer) -> Trial:
    return Trial(grammars, model_tokenizer)


@pytest.mark.parametrize("generated", GENERATED.values(), ids=GENERATED)
def test_what_generators_write_is_enforced_as_far_as_it_can_be(trial: Trial, generated: Generated) -> None:
    assert enforced(generated.schema, ORIGIN, strict=False).dropped == generated.not_enforced
    assert trial.allows(generated.schema, generated.fits)
    assert not trial.allows(generated.schema, generated.breaks)


@pytest.mark.parametrize("generated", GENERATED.values(), ids=GENERATED)
def test_what_generators_write_is_refused_where_all_of_it_is_demanded_and_some_cannot_be(
    trial: Trial, generated: Generated
) -> None:
    if not generated.not_enforced:
        assert trial.allows(generated.schema, generated.fits, strict=True)
        return
    *place, keyword = generated.not_enforced[0].split(".")
    with pytest.raises(InvalidRequest) as refusal:
        enforced(generated.schema, ORIGIN, strict=True)
    assert refusal.value.message.startswith(f"The JSON schema of the tool lookup cannot be enforced: {keyword} ")
    assert refusal.value.message.endswith(f", at {'.'.join(place)}." if place else ".")


@pytest.mark.parametrize("name", [name for name, generated in GENERATED.items() if not generated.not_enforced])
def test_a_random_walk_validates_where_all_is_enforced(
    grammars: Grammars, walker: Walker, model_tokenizer: ModelTokenizer, name: str
) -> None:
    schema, finished = GENERATED[name].schema, 0
    for seed in range(12):
        tokens, ended = walker.walk(grammars.compile(grammar(schema, strict=True)), seed)
        if ended:
            finished += 1
            _validate(json.loads(model_tokenizer.published.decode(tokens)), schema)
    assert finished >= 3  # or nothing was tested


@pytest.mark.parametrize("generated", [one for one in GENERATED.values() if one.read_by_validators])
def test_the_examples_are_what_they_are_said_to_be(generated: Generated) -> None:
    _validate(generated.fits, generated.schema)
    with pytest.raises(ValidationError):
        _validate(generated.breaks, generated.schema)


@pytest.mark.parametrize(
    "harmless",
    [
        {"type": "array", "uniqueItems": False, "items": {"type": "integer"}},
        {"type": "integer", "format": "int64", "minLength": 3, "uniqueItems": True, "pattern": "(?=x)"},
        {"type": "integer", "title": "x", "examples": [1], "x-other": {}, "deprecated": True, "$anchor": "a"},
        {"type": "integer", "x-guidance": {"lenient": True}},
        {"type": ["integer", "null"], "propertyNames": {"maxLength": 3}, "required": "nothing", "format": "email"},
        {"type": "integer", "if": {"minimum": 3}},
        {"type": "integer", "$defs": {"unused": {"not": {}}}},
    ],
)
def test_what_says_nothing_is_no_obstacle_where_all_is_demanded(trial: Trial, harmless: dict[str, Any]) -> None:
    value = [1] if harmless["type"] == "array" else 1
    assert trial.allows(harmless, value, strict=True)
    assert not trial.allows(harmless, "1", strict=True)


def test_what_is_left_out_leaves_no_trace(trial: Trial) -> None:
    """Members that a dropped keyword allowed are still allowed."""
    named = {"patternProperties": {r"\bx": {}}, "additionalProperties": False, "type": "object"}
    assert trial.allows(named, {"x": 1})
    endless = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert trial.allows(endless, {})
    elsewhere = {"type": "object", "properties": {"a": {"$id": "other.json", "$ref": "#/$defs/x"}}}
    assert trial.allows(elsewhere, {"a": [1]})
    wrong = {"type": "object", "properties": {"a": 5, "b": {"enum": []}, "c": {"type": "file"}}}
    assert enforced(wrong, ORIGIN, strict=False).dropped == ("properties.a", "properties.b.enum", "properties.c.type")
    assert trial.allows(wrong, {"a": 1, "b": 2, "c": 3})
    alternatives = {"anyOf": [{"minimum": 3}], "oneOf": [{"type": "integer"}, {"type": "number"}]}
    assert trial.allows(alternatives, 4)
    assert not trial.allows(alternatives, 2)
    assert not trial.allows(alternatives, "4")


def test_a_place_is_short_and_printable() -> None:
    schema: dict[str, Any] = {"not": {}}
    for _ in range(20):
        schema = {"type": "object", "properties": {"evil\n" * 50: schema}}
    with pytest.raises(InvalidRequest) as refusal:
        enforced(schema, ORIGIN, strict=True)
    assert len(refusal.value.message) < 400
    assert "\n" not in refusal.value.message
