"""From a `Params` model to the small, flat JSON Schema that hosts accept and models pay for.

Hosts drop tools whose schema is composed at its root, holds ``$ref`` or lists of types, so none of
that leaves here. Every array has ``items``, if only empty ones: hosts refuse the whole list
without. What costs tokens without saying anything goes as well: titles, class docstrings, null
alternatives, the limit that every string has, and ``additionalProperties: false`` (some converters
cannot read it; unknown arguments are refused here, whatever the schema says).

An empty value means that an optional argument is left out (see `darkroom.engine.arguments.validation`), unless its
schema says ``minLength: 0``, ``minItems: 0`` or ``minProperties: 0``: then it is a value.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_args

from pydantic import AfterValidator
from pydantic.json_schema import GenerateJsonSchema

from darkroom.providers.params import LONGEST_STRING, Address, Params

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic.json_schema import JsonSchemaMode
    from pydantic_core import CoreSchema, core_schema

    from darkroom.core.json_types import JsonObject

Schema: TypeAlias = "dict[str, Any]"
"""A JSON Schema: its keywords tell the types of their values."""

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
    """Return the input schema of a tool; it is shared, so leave it as it is.

    ``enums`` narrows string arguments to names that are known only at run time (workflows of the
    configuration); an empty list narrows nothing. ``made`` is what an earlier call returned for
    the same model, without ``enums``.
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


_CHECKS_OF_ADDRESSES = frozenset(
    mark.func for mark in get_args(Address) if isinstance(mark, AfterValidator)
)


class _Generator(GenerateJsonSchema):
    """pydantic's generator without what is Python's concern."""

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> Schema:  # noqa: ARG002 -- pydantic's signature
        """Leave out the search for short names of definitions: `_flat` puts them in their places."""
        return self.generate_inner(schema) | {"$defs": self.definitions}

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        """Leave out the docstring: it is written for us, descriptions of fields for the model."""
        generated = super().model_schema(schema)
        generated.pop("description", None)
        return generated

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        """Leave out a default that stands for "left out"."""
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Leave out null, which is refused when given."""
        return self.generate_inner(schema["schema"])

    def union_schema(self, schema: core_schema.UnionSchema) -> Schema:
        """Show the alternatives in the order in which pydantic names their mistakes."""
        choices = (
            choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]
        )
        return {"anyOf": [self.generate_inner(choice) for choice in choices]}

    def dict_schema(self, schema: core_schema.DictSchema) -> Schema:
        """Show what an object's values are; what their names must match is said when they do not."""
        generated = super().dict_schema(schema)
        for values in generated.pop("patternProperties", {}).values():
            generated["additionalProperties"] = values
        return generated

    def function_after_schema(self, schema: core_schema.AfterValidatorFunctionSchema) -> Schema:
        """Show an address as a plain string: its check says more than lengths would."""
        if schema["function"]["function"] in _CHECKS_OF_ADDRESSES:
            return {"type": "string"}
        return super().function_after_schema(schema)


def _flat(schema: Schema, definitions: Schema, within: tuple[str, ...]) -> Schema:
    """Put definitions in their places and drop every keyword that is not in `_KEYWORDS`."""
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
    """Lift the alternatives of an alternative that states nothing else."""
    lifted: list[Schema] = []
    for branch in branches:
        lifted.extend(branch["anyOf"] if branch.keys() == {"anyOf"} else [branch])
    return lifted


def _in_order(schema: Schema) -> Schema:
    return {keyword: schema[keyword] for keyword in _KEYWORDS if keyword in schema}
