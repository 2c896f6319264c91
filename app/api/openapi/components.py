"""JSON schemas of request and response bodies, as components of the document."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from app.api.http.body_model import NullableBody, TolerantBody
from app.api.openai.bodies.sampling_fields import AnswerBody

REF = "#/components/schemas/{model}"


def components(bodies: Iterable[type[BaseModel]], responses: Iterable[type]) -> dict[str, Any]:
    """Each body's schema by its name."""
    wanted: list[tuple[type, JsonSchemaMode, TypeAdapter[Any]]] = []
    wanted += [(body, "validation", TypeAdapter(body)) for body in bodies]
    wanted += [(body, "serialization", TypeAdapter(body)) for body in dict.fromkeys(responses)]
    _, schema = TypeAdapter.json_schemas(wanted, ref_template=REF, schema_generator=_Generate)
    definitions: dict[str, Any] = schema["$defs"]
    return definitions


def ref(body: type) -> dict[str, str]:
    return {"$ref": REF.format(model=body.__name__)}


class _Generate(GenerateJsonSchema):
    """Adds what pydantic does not know: in OpenAI's API null means an absent field, even for unknown fields; and
    responses have no fields but the listed ones."""

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        made = super().model_schema(schema)
        made.pop("description", None)  # docstrings are for readers of the code
        nullable = issubclass(schema["cls"], NullableBody)
        if issubclass(schema["cls"], TolerantBody):
            made.pop("additionalProperties", None)
        elif nullable:
            neutral = issubclass(schema["cls"], AnswerBody)
            made["additionalProperties"] = {"enum": [None, False, "", [], {}]} if neutral else {"type": "null"}
        for name, field in made.get("properties", {}).items():
            field.pop("title", None)
            if nullable and name not in made.get("required", ()) and not _takes_null(field):
                described = {key: field.pop(key) for key in ("default", "description") if key in field}
                made["properties"][name] = {"anyOf": [field, {"type": "null"}], **described}
        return made

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> dict[str, Any]:
        made = super().typed_dict_schema(schema)
        made.pop("description", None)
        made["additionalProperties"] = False
        for field in made["properties"].values():
            field.pop("title", None)
        return made


def _takes_null(field: dict[str, Any]) -> bool:
    return {"type": "null"} in field.get("anyOf", ())
