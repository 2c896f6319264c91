"""JSON schemas of our models, as components of the document."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema
from pydantic_core import core_schema

from app.api.http.body_model import NullableBody
from app.api.openapi.fields import TEXTS

REF = "#/components/schemas/{model}"


def components(bodies: Iterable[type[BaseModel]], answers: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """Each model's schema by its name."""
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in bodies]
    wanted += [(model, "serialization") for model in answers]
    _, schema = models_json_schema(wanted, ref_template=REF, schema_generator=_Generate)
    definitions: dict[str, Any] = schema["$defs"]
    return definitions


def ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


class _Generate(GenerateJsonSchema):
    """Adds what pydantic does not know: what fields mean, and that a null is an absent field, also an unknown one."""

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        made = super().model_schema(schema)
        cls = schema["cls"]
        made.pop("description", None)  # the docstring is for who reads the code
        if issubclass(cls, NullableBody):
            made["additionalProperties"] = {"type": "null"}
        for name, field in made.get("properties", {}).items():
            field.pop("title", None)
            if issubclass(cls, NullableBody) and name not in made.get("required", ()) and not _takes_null(field):
                described = {key: field.pop(key) for key in ("default", "description") if key in field}
                made["properties"][name] = {"anyOf": [field, {"type": "null"}], **described}
            text = TEXTS.get(f"{cls.__name__}.{name}", TEXTS.get(name))
            if text is not None:
                made["properties"][name].setdefault("description", text)
        return made


def _takes_null(field: dict[str, Any]) -> bool:
    return {"type": "null"} in field.get("anyOf", ())
