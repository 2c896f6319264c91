"""When no value fits two alternatives, and when that is not certain."""

from typing import Any

import pytest

from app.serving.constrained.json_alternatives import exclude_each_other


def _tagged(value: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"kind": {"const": value}}, "required": ["kind"], **more}


def _closed(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {}}, "required": [name], "additionalProperties": False}


@pytest.mark.parametrize(
    "options",
    [
        [{"type": "string"}, {"type": ["integer", "null"]}, {"type": "boolean"}],
        [{"const": 1}, {"enum": [2, "1"]}, {"const": True}, {"type": "array"}],
        [{"const": number} for number in range(200)],
        [_tagged("a"), _tagged("b"), {"type": "null"}],
        [_closed("a"), _closed("b"), {"enum": ["c"]}],
        [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
        [False, {}],
    ],
)
def test_these_exclude_each_other(options: list[Any]) -> None:
    root = {"$defs": {"a": {"$ref": "#/$defs/c"}, "b": _tagged("b"), "c": _tagged("a")}}
    assert exclude_each_other(root, options)


@pytest.mark.parametrize(
    "options",
    [
        [{"type": "integer"}, {"type": "number"}],
        [{"const": 1}, {"const": 1.0}],
        [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}],
        [{"const": {"x": 1}}, {"const": {"x": 1.0}}],
        [_tagged("a"), _tagged("a")],
        [_tagged("a"), _tagged("b") | {"required": []}],
        [_tagged("a"), {"properties": {"kind": {"const": "b"}}, "required": ["kind"]}],  # which a string fits too
        [_closed("a"), _closed("b") | {"patternProperties": {"a": {}}, "required": []}],
        [_closed("a") | {"additionalProperties": True}, _closed("b") | {"additionalProperties": {}}],
        [{"$ref": "other.json"}, {"$ref": "#/missing"}],
        [{"$ref": "#/loop"}, {"$ref": "#/loop"}],
        [{"type": "string"}] * 65,
        [{}, True],
        ["wrong", {"required": 5, "properties": 5, "type": 5, "enum": 5}],
    ],
)
def test_these_may_fit_together(options: list[Any]) -> None:
    assert not exclude_each_other({"loop": {"$ref": "#/loop"}}, options)
