"""From a `Params` model to a small, flat JSON Schema that all hosts accept.

Hosts drop tools whose schema has alternatives at its root, ``$ref`` or lists of types, so the schema
has none of these. Every array has ``items``, even if empty, because some hosts otherwise refuse the
whole list. Whatever costs tokens without informing the model is removed: titles, class docstrings,
null alternatives, the general limit for strings, and ``additionalProperties: false`` (some
converters cannot read it; unknown arguments are refused in any case).
An empty value means that an optional argument is left out (see `darkroom.engine.arguments.validation`), unless its
schema says ``minLength: 0``, ``minItems: 0`` or ``minProperties: 0``: then it is a value.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pydantic.json_schema import GenerateJsonSchema

from darkroom.providers.params import LONGEST_STRING, Params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic.json_schema import JsonSchemaMode
    from pydantic_core import CoreSchema, core_schema

    from darkroom.core.json_types import JsonObject

Schema: TypeAlias = "dict[str, Any]"
"""A JSON Schema with the types of its keywords."""

_KEYWORDS = (
    "type",
    "description",
    "enum",
    "const",
    "default",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "anyOf",
    "items",
    "properties",
    "required",
    "additionalProperties",
)
"""The keywords that are kept, in the order in which they are written."""

_STRING_LIMITS = frozenset({"minLength", "maxLength", "pattern"})


def input_schema(
    params: type[Params],
    *,
    enums: Mapping[str, Sequence[str]] = {},
    made: JsonObject | None = None,
) -> JsonObject:
    """Return the input schema of a tool; it is shared and must not be changed.

    ``enums`` restricts string arguments to names that are known only at run time (workflows of the
    configuration); an empty list does not restrict. ``made`` is the result of an earlier call for
    the same model without ``enums``.
    """
    schema = _model_schema(params) if made is None else cast("Schema", made)
    properties = dict(schema["properties"])
    for name, values in enums.items():
        if values:
            narrowed: Schema = {
                keyword: value
                for keyword, value in properties[name].items()
                if keyword not in _STRING_LIMITS
            }
            properties[name] = _in_order(narrowed | {"enum": list(values)})
    return cast("JsonObject", schema | {"properties": properties})


@cache
def _model_schema(params: type[Params]) -> Schema:
    generated = params.model_json_schema(schema_generator=_Generator)
    return _flat(generated, generated.get("$defs", {}), ())


class _Generator(GenerateJsonSchema):
    """pydantic's generator, without what only Python needs."""

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> Schema:  # noqa: ARG002 -- pydantic's signature
        """Skip the search for short names of definitions, because `_flat` inlines them."""
        return self.generate_inner(schema) | {"$defs": self.definitions}

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        """Leave out the docstring: it is for developers; descriptions of fields are for models."""
        generated = super().model_schema(schema)
        generated.pop("description", None)
        return generated

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        """Leave out a default that stands for "left out"."""
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Leave out null, which means "left out"."""
        return self.generate_inner(schema["schema"])

    def union_schema(self, schema: core_schema.UnionSchema) -> Schema:
        """Keep the alternatives in the order in which pydantic reports their errors."""
        choices = (
            choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]
        )
        return {"anyOf": [self.generate_inner(choice) for choice in choices]}

    def dict_schema(self, schema: core_schema.DictSchema) -> Schema:
        """Show the schema of an object's values; a wrong name gets its own message."""
        generated = super().dict_schema(schema)
        for values in generated.pop("patternProperties", {}).values():
            generated["additionalProperties"] = values
        return generated


def _flat(schema: Schema, definitions: Schema, within: tuple[str, ...]) -> Schema:
    """Inline the definitions, and drop every keyword that is not in `_KEYWORDS`."""
    if reference := schema.get("$ref"):
        name = reference.removeprefix("#/$defs/")
        if name in within:
            raise TypeError(f"{name} contains itself: no flat schema can say that")
        beside = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
        return _flat(definitions[name] | beside, definitions, (*within, name))

    def inner(value: Schema) -> Schema:
        return _flat(value, definitions, within)

    flat = {keyword: schema[keyword] for keyword in _KEYWORDS if keyword in schema}
    if flat.get("maxLength") == LONGEST_STRING:
        del flat["maxLength"]
    if "properties" in flat:
        flat["properties"] = {name: inner(value) for name, value in flat["properties"].items()}
    if flat.get("type") == "array":
        flat["items"] = inner(flat.get("items", {}))
    others = flat.pop("additionalProperties", None)
    if isinstance(others, dict) and (values := inner(cast("Schema", others))):
        flat["additionalProperties"] = values
    if branches := schema.get("anyOf", schema.get("oneOf")):
        flat["anyOf"] = _alternatives([inner(branch) for branch in branches])
    return _in_order(flat)


def _alternatives(branches: list[Schema]) -> list[Schema]:
    """Merge nested alternatives that have no other keywords."""
    lifted: list[Schema] = []
    for branch in branches:
        lifted.extend(branch["anyOf"] if branch.keys() == {"anyOf"} else [branch])
    return lifted


def _in_order(schema: Schema) -> Schema:
    return {keyword: schema[keyword] for keyword in _KEYWORDS if keyword in schema}
