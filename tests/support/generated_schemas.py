"""JSON schemas as Pydantic, Zod, schemars and OpenAPI's generators write them, by their documentation.

Each says what is not enforced of it, with a value that it allows and one that the rest of it forbids. The members of
an object are written in the order of its `properties`.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Generated:
    schema: dict[str, Any]
    fits: Any
    breaks: Any
    not_enforced: tuple[str, ...] = ()
    read_by_validators: bool = True  # of the current draft or of draft 7


def _object(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required or properties), **more}


_TEXT = {"type": "string"}
_DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}
_DRAFT_2020 = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
_CAT = {
    "additionalProperties": False,
    "properties": {"kind": {"const": "cat", "title": "Kind", "type": "string"}, "lives": {"type": "integer"}},
    "required": ["kind", "lives"],
    "title": "Cat",
    "type": "object",
}
_DOG = {
    "properties": {"kind": {"const": "dog", "title": "Kind", "type": "string"}},
    "required": ["kind"],
    "title": "Dog",
    "type": "object",
}

PYDANTIC = {
    "constraints, defaults and null": Generated(
        _object(
            {
                "name": {"maxLength": 9, "minLength": 1, "title": "Name", "type": "string", "examples": ["a"]},
                "age": {"anyOf": [{"exclusiveMinimum": 0, "type": "integer"}, {"type": "null"}], "default": None},
                "level": {"default": "low", "enum": ["low", "high"], "title": "Level", "type": "string"},
            },
            "name",
            title="Person",
            additionalProperties=False,
        ),
        {"name": "Ada", "age": None, "level": "high"},
        {"name": "Ada", "age": 0},
    ),
    "a set": Generated(
        _object({"tags": {"items": {"type": "string"}, "title": "Tags", "type": "array", "uniqueItems": True}}),
        {"tags": ["a", "b"]},
        {"tags": [1]},
        ("properties.tags.uniqueItems",),
    ),
    "a tuple": Generated(
        _object(
            {
                "at": {
                    "maxItems": 2,
                    "minItems": 2,
                    "prefixItems": [{"type": "number"}, {"type": "string"}],
                    "title": "At",
                    "type": "array",
                }
            }
        ),
        {"at": [1.5, "x"]},
        {"at": [1.5]},
    ),
    "a decimal": Generated(
        _object(
            {
                "price": {
                    "anyOf": [
                        {"minimum": 0, "type": "number"},
                        {"pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$", "type": "string"},
                    ]
                }
            }
        ),
        {"price": "1.50"},
        {"price": -1},
        ("properties.price.anyOf.1.pattern",),
    ),
    "times, ids and addresses": Generated(
        _object(
            {
                "at": {"format": "date-time", "title": "At", "type": "string"},
                "id": {"format": "uuid", "title": "Id", "type": "string"},
                "host": {"format": "ipv4", "type": "string"},
                "took": {"format": "duration", "type": "string"},
            },
            "at",
        ),
        {"at": "2026-01-02T03:04:05Z", "host": "10.0.0.1"},
        {"at": "2026-01-02T03:04:05Z", "id": "7"},
    ),
    "paths, networks and secrets": Generated(
        _object(
            {
                "folder": {"format": "directory-path", "type": "string"},
                "network": {"format": "ipv4network", "type": "string"},
                "token": {"format": "password", "type": "string", "writeOnly": True},
                "data": {"format": "binary", "type": "string"},
            }
        ),
        {"folder": "/a", "network": "10.0.0.0/8", "token": "t", "data": "d"},
        {"folder": 1},
        ("properties.folder.format", "properties.network.format"),
    ),
    "a discriminated union": Generated(
        {
            "$defs": {"Cat": _CAT, "Dog": _DOG},
            **_object(
                {
                    "pet": {
                        "discriminator": {
                            "mapping": {"cat": "#/$defs/Cat", "dog": "#/$defs/Dog"},
                            "propertyName": "kind",
                        },
                        "oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}],
                    }
                }
            ),
        },
        {"pet": {"kind": "cat", "lives": 7}},
        {"pet": {"kind": "cow"}},
    ),
    "a map with patterns of names": Generated(
        _object({"scores": {"patternProperties": {"^[a-z]+$": {"type": "integer"}}, "type": "object"}}),
        {"scores": {"ada": 1}},
        {"scores": {"ada": "one"}},
    ),
    "a tree": Generated(
        {
            "$defs": {
                "Node": _object(
                    {"name": {"type": "string"}, "children": {"items": {"$ref": "#/$defs/Node"}, "type": "array"}},
                    "name",
                )
            },
            "$ref": "#/$defs/Node",
            "type": "object",
        },
        {"name": "a", "children": [{"name": "b"}]},
        {"name": "a", "children": [{"children": []}]},
    ),
    "steps of a tenth": Generated(
        _object({"weight": {"multipleOf": 0.1, "minimum": 0, "type": "number"}}),
        {"weight": 0.5},
        {"weight": -0.5},
        ("properties.weight.multipleOf",),
    ),
}

ZOD = {
    "3: a tuple of draft 7": Generated(
        {
            **_object(
                {
                    "range": {
                        "type": "array",
                        "minItems": 2,
                        "maxItems": 2,
                        "items": [{"type": "integer"}, {"type": "integer"}],
                    }
                },
                additionalProperties=False,
            ),
            **_DRAFT_7,
        },
        {"range": [1, 2]},
        {"range": [1, "2"]},
    ),
    "3: a tuple with a rest": Generated(
        {
            **_object(
                {"row": {"type": "array", "items": [{"type": "string"}], "additionalItems": {"type": "number"}}}
            ),
            **_DRAFT_7,
        },
        {"row": ["a", 1, 2]},
        {"row": ["a", "b"]},
    ),
    "3: a type that was used before": Generated(
        {
            **_object(
                {
                    "from": {"type": "array", "items": [{"type": "string", "enum": ["a", "b"]}], "minItems": 1},
                    "to": {"$ref": "#/properties/from/items/0"},
                },
                additionalProperties=False,
            ),
            **_DRAFT_7,
        },
        {"from": ["a"], "to": "b"},
        {"from": ["a"], "to": "c"},
    ),
    "3: a set, a map and a big integer": Generated(
        _object(
            {
                "ids": {"type": "array", "uniqueItems": True, "items": {"type": "integer", "format": "int64"}},
                "map": {
                    "type": "array",
                    "maxItems": 125,
                    "items": {
                        "type": "array",
                        "items": [{"type": "string"}, {"type": "number"}],
                        "minItems": 2,
                        "maxItems": 2,
                    },
                },
            }
        ),
        {"ids": [1, 2], "map": [["a", 1]]},
        {"ids": [1.5], "map": []},
        ("properties.ids.uniqueItems",),
    ),
    "3: a union, and never": Generated(
        _object(
            {
                "to": {
                    "anyOf": [
                        _object({"kind": {"type": "string", "const": "mail"}}, additionalProperties=False),
                        _object({"kind": {"type": "string", "const": "call"}}, additionalProperties=False),
                    ]
                },
                "nothing": {"not": {}},
            },
            "to",
        ),
        {"to": {"kind": "call"}},
        {"to": {"kind": "walk"}},
        ("properties.nothing.not",),
    ),
    "4: a record": Generated(
        {
            **_object(
                {
                    "headers": {
                        "type": "object",
                        "propertyNames": {"type": "string"},
                        "additionalProperties": {"type": "string"},
                    }
                },
                additionalProperties=False,
            ),
            **_DRAFT_2020,
        },
        {"headers": {"a": "b"}},
        {"headers": {"a": 1}},
    ),
    "4: a record of an enum": Generated(
        _object(
            {
                "counts": {
                    "type": "object",
                    "propertyNames": {"type": "string", "enum": ["a", "b"]},
                    "additionalProperties": {"type": "number"},
                }
            }
        ),
        {"counts": {"a": 1}},
        {"counts": {"a": "1"}},
        ("properties.counts.propertyNames",),
    ),
    "4: a safe integer and an address": Generated(
        _object(
            {
                "page": {"type": "integer", "minimum": -9007199254740991, "maximum": 9007199254740991},
                "email": {
                    "type": "string",
                    "format": "email",
                    "pattern": r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]"
                    r"@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$",
                },
            }
        ),
        {"page": 3, "email": "a@example.org"},
        {"page": 3, "email": "nobody"},
        ("properties.email.pattern",),
    ),
    "4: a literal, a prefix and a tuple": Generated(
        {
            **_object(
                {
                    "kind": {"type": "string", "const": "range"},
                    "path": {"type": "string", "pattern": "^src.*"},
                    "span": {
                        "type": "array",
                        "prefixItems": [{"type": "number"}, {"type": "number"}],
                        "items": {"type": "string"},
                    },
                },
                additionalProperties=False,
            ),
            **_DRAFT_2020,
        },
        {"kind": "range", "path": "src/a", "span": [1, 2, "x"]},
        {"kind": "range", "path": "lib", "span": []},
    ),
}

SCHEMARS = {
    "numbers of a size": Generated(
        {
            **_object(
                {
                    "port": {"type": "integer", "format": "uint16", "minimum": 0, "maximum": 65535},
                    "ratio": {"type": ["number", "null"], "format": "double"},
                },
                "port",
            ),
            **_DRAFT_2020,
            "title": "Config",
        },
        {"port": 80, "ratio": 0.5},
        {"port": 70000},
    ),
    "an enum with descriptions": Generated(
        _object(
            {
                "level": {
                    "oneOf": [
                        {"description": "Little.", "type": "string", "const": "low"},
                        {"description": "Much.", "type": "string", "enum": ["high"]},
                    ]
                }
            }
        ),
        {"level": "high"},
        {"level": "middle"},
    ),
    "an externally tagged enum": Generated(
        _object(
            {
                "shape": {
                    "oneOf": [
                        {"type": "string", "enum": ["Nothing"]},
                        _object({"Circle": {"type": "number", "format": "float"}}, additionalProperties=False),
                        _object({"Square": {"type": "number", "format": "float"}}, additionalProperties=False),
                    ]
                }
            }
        ),
        {"shape": {"Square": 1.5}},
        {"shape": {"Square": "big"}},
    ),
    "an untagged enum": Generated(
        _object({"value": {"oneOf": [{"type": "integer", "format": "int32"}, {"type": "number"}]}}),
        {"value": 1.5},
        {"value": "1.5"},
        ("properties.value.oneOf",),
    ),
    "a set, an option and a map": Generated(
        {
            **_object(
                {
                    "names": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
                    "owner": {"anyOf": [{"$ref": "#/definitions/Owner"}, {"type": "null"}]},
                    "sizes": {"type": "object", "additionalProperties": {"type": "integer", "format": "uint8"}},
                },
                "names",
            ),
            **_DRAFT_7,
            "definitions": {"Owner": _object({"id": {"type": "integer", "format": "uint64", "minimum": 0}})},
        },
        {"names": [], "owner": {"id": 1}, "sizes": {"a": 1}},
        {"names": [], "owner": {"id": -1}},
        ("properties.names.uniqueItems",),
    ),
    "a flattened struct that allows nothing else": Generated(
        {
            **_object({"a": {"type": "integer"}}),
            "allOf": [{"$ref": "#/$defs/Other"}],
            "unevaluatedProperties": False,
            "$defs": {"Other": _object({"b": {"type": "boolean"}})},
        },
        {"a": 1, "b": True},
        {"a": 1, "b": 2},
        ("unevaluatedProperties",),
    ),
}

OPEN_API = {
    "shared components": Generated(
        {
            **_object({"pet": {"$ref": "#/components/schemas/Pet"}}),
            "components": {
                "schemas": {
                    "Pet": {
                        **_object({"id": {"type": "integer", "format": "int64", "example": 10, "readOnly": True}}),
                        "xml": {"name": "pet"},
                        "externalDocs": {"url": "https://example.com"},
                    },
                    "Unused": {"not": {}, "uniqueItems": True},
                }
            },
        },
        {"pet": {"id": 1}},
        {"pet": {"id": "1"}},
    ),
    "3.0: null and strict bounds": Generated(
        _object(
            {
                "note": {"type": "string", "nullable": True},
                "score": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
                "file": {"type": "string", "format": "byte"},
            }
        ),
        {"note": "x", "score": 0.5, "file": "YQ=="},
        {"note": 1, "score": 0.5, "file": "YQ=="},
        ("properties.score.exclusiveMinimum", "properties.file.format"),
        read_by_validators=False,
    ),
    "inheritance": Generated(
        {
            "type": "object",
            "allOf": [{"$ref": "#/definitions/Base"}, _object({"speed": {"type": "number", "format": "double"}})],
            "definitions": {"Base": _object({"id": {"type": "string", "maxLength": 5}})},
        },
        {"id": "a", "speed": 1.5},
        {"id": "a", "speed": "fast"},
    ),
    "alternatives by reference": Generated(
        {
            **_object(
                {
                    "target": {
                        "oneOf": [{"$ref": "#/definitions/Team"}, {"$ref": "#/definitions/User"}],
                        "discriminator": {"propertyName": "kind"},
                    }
                }
            ),
            "definitions": {
                "Team": _object({"name": {"type": "string"}}),
                "User": _object({"name": {"type": "string"}, "age": {"type": "integer"}}, "age"),
            },
        },
        {"target": {"age": 3}},
        {"target": {"name": 1}},
        ("properties.target.oneOf",),
    ),
    "what depends on what": Generated(
        _object(
            {
                "card": {"type": "string"},
                "address": {"type": "string", "maxLength": 100_000},
                "limits": {"type": "object", "minProperties": 2, "additionalProperties": {"type": "integer"}},
            },
            "card",
            dependentRequired={"card": ["address"]},
            **{"if": {"required": ["card"]}, "then": {"required": ["address"]}},
        ),
        {"card": "1", "address": "x", "limits": {"a": 1, "b": 2}},
        {"card": "1", "address": "x", "limits": {}},
        ("properties.address.maxLength", "properties.limits.minProperties", "dependentRequired", "if", "then"),
    ),
    "a file elsewhere": Generated(
        _object({"order": {"$ref": "order.json#/Order"}, "count": {"type": "integer"}}),
        {"order": {"any": "thing"}, "count": 1},
        {"order": 1, "count": "1"},
        ("properties.order.$ref",),
        read_by_validators=False,
    ),
    "patterns that overlap": Generated(
        _object(
            {
                "x": {
                    "type": "object",
                    "patternProperties": {r"^\w+$": {"type": "integer"}, r"\bid\b": {"type": "string"}},
                    "additionalProperties": False,
                },
                "y": {"type": "boolean"},
            }
        ),
        {"x": {"n": 2}, "y": True},
        {"x": {}, "y": 1},
        ("properties.x.patternProperties",),
    ),
}

GENERATED: dict[str, Generated] = {
    f"{generator}, {name}": generated
    for generator, all_of_it in (
        ("Pydantic", PYDANTIC),
        ("Zod", ZOD),
        ("schemars", SCHEMARS),
        ("OpenAPI", OPEN_API),
    )
    for name, generated in all_of_it.items()
}
