"""JSON schemas: such as applications send, such as nobody can enforce, and such as attackers send."""

from typing import Any

SCHEMAS: dict[str, dict[str, Any]] = {
    "an extracted person": {
        "title": "Person",
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 130},
            "email": {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "null"}], "default": None},
        },
        "required": ["name", "age", "email"],
        "additionalProperties": False,
    },
    "pydantic with references": {
        "$defs": {"Color": {"enum": ["red", "green"], "title": "Color", "type": "string"}},
        "properties": {
            "color": {"$ref": "#/$defs/Color"},
            "others": {"items": {"$ref": "#/$defs/Color"}, "maxItems": 3, "title": "Others", "type": "array"},
        },
        "required": ["color"],
        "title": "Choice",
        "type": "object",
        "additionalProperties": False,
    },
    "zod, draft 7": {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "definitions": {"step": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}},
        "type": "object",
        "properties": {"steps": {"type": "array", "items": {"$ref": "#/definitions/step"}, "minItems": 1}},
        "required": ["steps"],
        "additionalProperties": False,
    },
    "a linked list": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "next"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "a tree": {
        "type": "object",
        "properties": {"children": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2}},
        "additionalProperties": False,
    },
    "a discriminated union": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": "a"}, "x": {"type": "integer"}},
                "required": ["kind"],
            },
            {"type": "object", "properties": {"kind": {"const": "b"}, "y": {"type": "null"}}, "required": ["kind"]},
        ]
    },
    "all of": {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "string", "maxLength": 4}}, "required": ["a"]},
            {"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]},
        ]
    },
    "a map": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1},
    "patterns of names": {
        "type": "object",
        "patternProperties": {"^x_": {"type": "integer"}},
        "additionalProperties": {"type": "boolean"},
    },
    "at least one of two": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "minProperties": 1,
        "additionalProperties": False,
    },
    "no type": {"properties": {"a": {"type": "integer"}}, "required": ["a"], "minimum": 3, "maxLength": 2},
    "any value": {},
    "values of all kinds": {"enum": [1, "a", None, True, 1.5, {"x": ["é\n"]}]},
    "a constant": {"const": {"quote": '"\\/', "number": 1e20}},
    "a tuple": {
        "type": "array",
        "prefixItems": [{"type": "string", "maxLength": 3}, {"type": "boolean"}],
        "items": False,
    },
    "counted items": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "a small integer": {"type": "integer", "exclusiveMinimum": -5, "maximum": 17},
    "a probability": {"type": "number", "minimum": 0, "maximum": 1},
    "strictly between": {"type": "number", "exclusiveMinimum": 0.25, "exclusiveMaximum": 0.5},
    "a tiny number": {"type": "number", "minimum": -1e-7, "maximum": 1e-7},
    "a huge integer": {"type": "integer", "minimum": 2**53},
    "multiples": {"type": "integer", "multipleOf": 7, "minimum": 15, "maximum": 100},
    "multiples of any size": {"type": "number", "multipleOf": 7},
    "counted characters": {"type": "string", "minLength": 3, "maxLength": 6},
    "an unusual name": {
        "type": "object",
        "properties": {'é "q" \\': {"type": "boolean"}},
        "required": ['é "q" \\'],
        "additionalProperties": False,
    },
    **{
        f"pattern {pattern}": {"type": "string", "pattern": pattern}
        for pattern in (
            r"^\S+$",
            r"^[^\s]{2,4}$",
            r"^(\d{3}-)?\d{4}$",
            r"^[a-z]+(_[a-z]+)*$",
            r"^(?:[01]\d|2[0-3]):[0-5]\d$",
            r"^a\/b$",
            r"^[\w.-]{2,5}$",
            r"^[\u0041-\u0043]{2}$",
            r"^.{3,8}$",
            r"^$",
        )
    },
    **{
        f"format {name}": {"type": "string", "format": name}
        for name in ("date-time", "date", "time", "duration", "hostname", "ipv4", "ipv6", "uuid")
    },
}
"""Each must be enforced."""

REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("not", {"not": {"type": "string"}}),
    ("if", {"if": {"type": "string"}, "then": {"minLength": 3}}),
    ("uniqueItems", {"type": "array", "uniqueItems": True}),
    ("contains", {"type": "array", "contains": {"type": "integer"}}),
    ("propertyNames", {"propertyNames": {"maxLength": 3}}),
    ("dependentRequired", {"dependentRequired": {"a": ["b"]}}),
    ("unevaluatedProperties", {"unevaluatedProperties": False}),
    ("$dynamicRef", {"$dynamicRef": "#sesame"}),
    ("oneOf", {"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}),
    ("format", {"type": "string", "format": "sesame"}),
    ("format", {"type": "string", "format": "unknown"}),
    ("pattern", {"type": "string", "pattern": "(?=sesame)"}),
    ("pattern", {"type": "string", "pattern": "(?i)sesame"}),
    ("pattern", {"type": "string", "pattern": "(sesame"}),
    ("pattern", {"type": "string", "pattern": r"^\W$"}),
    ("pattern", {"type": "string", "pattern": r"^[^\d]$"}),
    ("pattern", {"type": "string", "pattern": r"^\p{L}$"}),
    ("pattern", {"type": "string", "pattern": "[a-z&&[aeiou]]"}),
    ("pattern", {"type": "string", "pattern": "^a++$"}),
    ("pattern", {"type": "string", "pattern": 7}),
    ("patternProperties", {"patternProperties": {r"\bsesame": {}}}),
    ("multipleOf", {"type": "number", "multipleOf": 0.01}),
    ("multipleOf", {"type": "number", "multipleOf": 0}),
    ("minimum", {"type": "integer", "minimum": 1e30}),
    ("exclusiveMinimum", {"type": "integer", "minimum": 1, "exclusiveMinimum": True}),
    ("minLength", {"type": "string", "minLength": -1}),
    ("minLength", {"type": "string", "minLength": 8001}),
    ("maxLength", {"type": "string", "maxLength": 8001}),
    ("minProperties", {"type": "object", "minProperties": 2}),
    ("items", {"prefixItems": [{}], "items": [{"type": "string"}]}),
    ("additionalProperties", {"additionalProperties": "sesame"}),
    ("a schema", {"anyOf": ["sesame"]}),
    ("type", {"type": "sesame"}),
    ("enum", {"enum": []}),
    ("required", {"required": "sesame"}),
    ("properties", {"properties": ["sesame"]}),
    ("$ref", {"$ref": "https://example.com/sesame"}),
    ("$ref", {"$ref": "#/$defs/sesame"}),
    ("$ref", {"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/properties/held"}]}),
    ("$ref", {"$ref": "#/properties/held"}),
    (
        "$ref",
        {"type": "object", "properties": {"next": {"$ref": "#/properties/held"}}, "required": ["next"]},
    ),
    ("$ref", {"type": "array", "items": {"$ref": "#/properties/held"}, "minItems": 1}),
    ("$id", {"$id": "sesame"}),
    ("$schema", {"$schema": "http://json-schema.org/draft-04/schema#"}),
]
"""What must be refused, and the keyword that the refusal names. Nothing of `sesame` may be quoted."""


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"sesame": schema}, "required": ["sesame"]}
    return schema


def _branching(levels: int, keyword: str) -> dict[str, Any]:
    """Each definition names the next one twice: written out, it is 2**levels long."""
    definitions: dict[str, Any] = {f"d{levels}": {"type": "string"}}
    for level in range(levels):
        reference = {"$ref": f"#/$defs/d{level + 1}"}
        definitions[f"d{level}"] = {keyword: [reference, {"type": "object", "properties": {"sesame": reference}}]}
    return {"$defs": definitions, "$ref": "#/$defs/d0"}


HOSTILE: dict[str, dict[str, Any]] = {
    "a huge enum": {"enum": [f"sesame {number}" for number in range(5000)]},
    "a larger enum": {"enum": [f"sesame {number}" for number in range(100_000)]},
    "many optional properties": {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(1000)}},
    "too many properties": {"type": "object", "properties": {f"p{n}": {} for n in range(10_000)}},
    "nested as deep as allowed": _nested(20),
    "nested deeper": _nested(10_000),
    "any of any of": _branching(60, "anyOf"),
    "all of all of": _branching(60, "allOf"),
    "a product of alternatives": {
        "allOf": [
            {"anyOf": [{"properties": {f"sesame{n}{m}": {"type": "string"}}} for m in range(6)]} for n in range(8)
        ]
    },
    "a pattern with an exponential automaton": {"type": "string", "pattern": "^(a|b)*a(a|b){200}$"},
    "repeated repetitions": {"type": "string", "pattern": "^(((a{1,100}){1,100}){1,100}){1,100}$"},
    "ambiguous repetitions": {"type": "string", "pattern": "^(([a-z]*)*b?)*c$"},
    "many optional letters": {"type": "string", "pattern": "^(a?){500}a{500}$"},
    "a long string at least": {"type": "string", "minLength": 2**53},
    "many items at least": {"type": "array", "items": {"type": "integer"}, "minItems": 2**53},
    "a reference to itself": {"$defs": {"sesame": {"$ref": "#/$defs/sesame"}}, "$ref": "#/$defs/sesame"},
    "any of itself": {"$defs": {"sesame": {"anyOf": [{"$ref": "#/$defs/sesame"}]}}, "$ref": "#/$defs/sesame"},
    "an object that never ends": {
        "type": "object",
        "properties": {"sesame": {"$ref": "#"}},
        "required": ["sesame"],
        "additionalProperties": False,
    },
}
"""Each must cost little: refused, failed while it is followed, or followed."""
