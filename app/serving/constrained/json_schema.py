"""What of a JSON schema is enforced: all of it, or it is refused; or what can be, where that suffices.

The grammar library refuses most of what it cannot enforce, but its messages quote the schema, and it accepts a few
keywords whose answers a validator would reject. So schemas are read here first, and written again with nothing but
what is enforced. The tests in `tests/unit/serving/constrained/` validate answers with the `jsonschema` package.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.serving.constrained.json_alternatives import exclude_each_other
from app.serving.constrained.json_keywords import REFUSED, RULES, is_count, says_nothing
from app.serving.constrained.json_parts import SCHEMA, SCHEMAS_BY_NAME, SCHEMAS_IN_LIST, modern, objects, parts
from app.serving.constrained.json_references import endless, resolve
from app.serving.constrained.schema_text import Origin

LONGEST_PLACE = 200  # characters of a place in a schema, in messages
_LONGEST_NAME = 64

_REST_OF = (
    ("properties", "additionalProperties"),
    ("patternProperties", "additionalProperties"),
    ("prefixItems", "items"),
)
"""A keyword, and the keyword for what the first one does not mention."""

Place = tuple[str, ...]
"""The keywords and names from a schema's root to a part of it."""


@dataclass(frozen=True, slots=True)
class Enforced:
    """A schema with nothing but what is enforced, and the places of the keywords that are not."""

    schema: dict[str, Any]
    dropped: tuple[str, ...]


def enforced(schema: Mapping[str, Any], origin: Origin, *, strict: bool) -> Enforced:
    """What of the schema is enforced; `schema_text` has taken it.

    If `strict`, that is all of it: raises InvalidRequest that names the keyword and its place, and quotes no value.
    Otherwise a keyword that cannot be enforced is left out, and the result allows at least what the schema allows.
    """
    reader = _Reader(schema, origin, strict=strict)
    written = reader.read()
    if endless(written, list(objects(written))):
        reader.cannot((), "$ref", "requires a value that never ends, or is a chain of too many references")
        written = {"type": "object"} if schema.get("type") == "object" else {}
    return Enforced(written, tuple(reader.dropped))


class _Reader:
    """Reads one schema, from its root to whatever is reached from there, and writes what is enforced of it.

    Every schema that a reference points to becomes a definition, wherever it was: so tuples of draft 7 and schemas at
    places of OpenAPI are written as later drafts have them, and what nothing refers to does not matter.
    """

    def __init__(self, root: Mapping[str, Any], origin: Origin, *, strict: bool) -> None:
        self.dropped: list[str] = []
        self._root = root
        self._origin = origin
        self._strict = strict
        self._targets: dict[int, tuple[str, Mapping[str, Any], Place]] = {}  # by id: name, schema, place

    def read(self) -> dict[str, Any]:
        self._find_targets()
        written = self._object(self._root, ())
        if self._targets:
            written["$defs"] = {name: self._object(part, place) for name, part, place in self._targets.values()}
        return written

    def cannot(self, place: Place, keyword: str, why: str) -> None:
        """Refuses the schema, or notes that this keyword is left out. Without a keyword the schema there is."""
        if self._strict:
            where = f", at {place_text(place)}" if place else ""
            raise self._origin.refusal(f"cannot be enforced: {f'{keyword} {why}'.lstrip()}{where}")
        self.dropped.append(place_text((*place, keyword) if keyword else place))

    def _find_targets(self) -> None:
        seen: set[int] = set()
        waiting: list[Any] = [self._root]
        while waiting:
            part = waiting.pop()
            if not isinstance(part, Mapping) or id(part) in seen:
                continue
            seen.add(id(part))
            part = modern(part)
            waiting += [inner for keyword, value in part.items() for inner in parts(keyword, value)]
            target = self._target(part.get("$ref"))
            if target is not None and target is not self._root and id(target) not in self._targets:
                place = tuple(part["$ref"].split("/")[1:])
                self._targets[id(target)] = (f"d{len(self._targets)}", target, place)
                waiting.append(target)

    def _target(self, reference: Any) -> Mapping[str, Any] | None:
        """The schema that a reference points to, None if there is none."""
        if not RULES["$ref"][0](reference):
            return None
        try:
            target = resolve(self._root, reference)
        except LookupError:
            return None
        return target if isinstance(target, Mapping) else None

    def _part(self, part: Any, place: Place) -> Any:
        if isinstance(part, bool):
            return part
        if not isinstance(part, Mapping):
            self.cannot(place, "", "a schema must be an object or a boolean")
            return True
        return self._reference(part) if part is self._root or id(part) in self._targets else self._object(part, place)

    def _reference(self, target: Mapping[str, Any]) -> dict[str, Any]:
        return {"$ref": "#" if target is self._root else f"#/$defs/{self._targets[id(target)][0]}"}

    def _object(self, given: Mapping[str, Any], place: Place) -> dict[str, Any]:
        if place and "$id" in given:  # references within it would point elsewhere
            self.cannot(place, "$id", "is supported at the root only")
            return {}
        schema = modern(given)
        written: dict[str, Any] = {}
        for keyword in schema:
            if (keyword in RULES or keyword in REFUSED) and not says_nothing(schema, keyword):
                written.update(self._keyword(schema, keyword, place))
        for named, rest in _REST_OF:
            if named in schema and named not in written:
                written.pop(rest, None)  # it would apply to what the other keyword allows
        self._write_alternatives(schema, written, place)
        return written

    def _write_alternatives(self, schema: Mapping[str, Any], written: dict[str, Any], place: Place) -> None:
        """`oneOf` as `anyOf`, which is the same where alternatives exclude each other: the library refuses all but
        the plainest `oneOf`."""
        if "oneOf" not in written:
            return
        if not exclude_each_other(self._root, schema["oneOf"]):
            self.cannot(place, "oneOf", "is enforced only where no value fits two of its alternatives")
        options = written.pop("oneOf")
        if "anyOf" in written:
            written["allOf"] = [*written.get("allOf", []), {"anyOf": options}]
        else:
            written["anyOf"] = options

    def _keyword(self, schema: Mapping[str, Any], keyword: str, place: Place) -> dict[str, Any]:
        """The keyword as it is written; empty when it is left out."""
        value = schema[keyword]
        if keyword in REFUSED:
            self.cannot(place, keyword, "is not supported")
            return {}
        fits, why = RULES[keyword]
        if not fits(value):
            self.cannot(place, keyword, why)
            return {"minProperties": 1} if keyword == "minProperties" and is_count(value) else {}
        if keyword == "$ref":
            return self._referring(value, place)
        return {} if keyword == "$schema" else {keyword: self._parts_written(keyword, value, (*place, keyword))}

    def _parts_written(self, keyword: str, value: Any, place: Place) -> Any:
        if keyword in SCHEMAS_BY_NAME:
            return {name: self._part(part, (*place, name)) for name, part in value.items()}
        if keyword in SCHEMAS_IN_LIST:
            return [self._part(part, (*place, str(number))) for number, part in enumerate(value)]
        return self._part(value, place) if keyword in SCHEMA else value

    def _referring(self, reference: str, place: Place) -> dict[str, Any]:
        target = self._root if reference == "#" else self._target(reference)
        if target is None:
            self.cannot(place, "$ref", "does not point to a schema")
            return {}
        return self._reference(target)


def place_text(place: Place) -> str:
    """For messages and logs: names with dots, without what cannot be printed, and of a long place the end."""
    text = ".".join("".join(c if c.isprintable() else "?" for c in name[:_LONGEST_NAME]) for name in place)
    return text if len(text) <= LONGEST_PLACE else f"…{text[-LONGEST_PLACE:]}"
