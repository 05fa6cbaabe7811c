"""Schemas are flat, small, and say all that a model needs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import jsonschema
import pytest
from pydantic import Field, JsonValue

from darkroom.engine.arguments.schema import input_schema
from darkroom.providers.params import Address, CheckParams, Params, StartParams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from darkroom.core.json_types import JsonObject

Size = Annotated[int, Field(ge=1, le=5000)] | Annotated[str, Field(pattern=r"^\d+%$")]


class Resizing(Params):
    """A docstring for readers of the code."""

    width: Size | None = None
    fit: Literal["crop", "bounds"] | None = None


class Circle(Params):
    kind: Literal["circle"]
    radius: Annotated[float, Field(gt=0)]


class Square(Params):
    kind: Literal["square"]
    title: str


class Everything(StartParams):
    """Another docstring."""

    prompt: Annotated[str, Field(description="What the picture shows", min_length=1)]
    images: Annotated[list[Address], Field(min_length=1, max_length=3)]
    workflow: Annotated[str, Field(max_length=100)] | None = None
    seed: int | None = None
    steps: Annotated[int, Field(ge=1, le=50)] = 20
    resizing: Annotated[Resizing | None, Field(description="The size")] = None
    shapes: list[Annotated[Circle | Square, Field(discriminator="kind")]] | None = None
    details: dict[str, JsonValue] | None = None
    anything: JsonValue = None
    sizes: dict[str, Size] | None = None
    named: dict[Annotated[str, Field(pattern="^[a-z]+$")], int] | None = None
    lists: dict[str, list[JsonValue]] | None = None
    either: Size | bool | None = None
    title: Literal["only"] | None = None


class Nothing(Params):
    pass


class Tree(Params):
    branches: list[Tree]


def nodes(schema: JsonObject) -> Iterator[JsonObject]:
    """Yield a schema and every schema within it."""
    yield schema
    properties = schema.get("properties", {})
    assert isinstance(properties, dict)
    inner = [*properties.values(), schema.get("items"), schema.get("additionalProperties")]
    branches = schema.get("anyOf", [])
    assert isinstance(branches, list)
    for value in [*inner, *branches]:
        if isinstance(value, dict):
            yield from nodes(value)


def test_a_check_tool_has_exactly_this_schema() -> None:
    assert json.dumps(input_schema(CheckParams)) == json.dumps(
        {
            "type": "object",
            "properties": {
                "job_id": {"type": "string", "minLength": 1, "maxLength": 200},
                "wait_seconds": {"type": "integer", "minimum": 0, "maximum": 40},
                "include_url": {"type": "boolean", "default": False},
            },
            "required": ["job_id"],
        }
    )


def test_a_tool_without_arguments_has_an_object_without_properties() -> None:
    assert input_schema(Nothing) == {"type": "object", "properties": {}}


def test_all_kinds_of_arguments_are_shown_flat() -> None:
    size = {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": 5000},
            {"type": "string", "pattern": r"^\d+%$"},
        ]
    }
    assert input_schema(Everything)["properties"] == {
        "prompt": {"type": "string", "description": "What the picture shows", "minLength": 1},
        "images": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string"}},
        "workflow": {"type": "string", "maxLength": 100},
        "seed": {"type": "integer"},
        "steps": {"type": "integer", "default": 20, "minimum": 1, "maximum": 50},
        "resizing": {
            "type": "object",
            "description": "The size",
            "properties": {"width": size, "fit": {"type": "string", "enum": ["crop", "bounds"]}},
        },
        "shapes": {
            "type": "array",
            "items": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {
                            "kind": {"type": "string", "const": "circle"},
                            "radius": {"type": "number", "exclusiveMinimum": 0},
                        },
                        "required": ["kind", "radius"],
                    },
                    {
                        "type": "object",
                        "properties": {
                            "kind": {"type": "string", "const": "square"},
                            "title": {"type": "string"},
                        },
                        "required": ["kind", "title"],
                    },
                ]
            },
        },
        "details": {"type": "object"},
        "anything": {},
        "sizes": {"type": "object", "additionalProperties": size},
        "named": {"type": "object", "additionalProperties": {"type": "integer"}},
        "lists": {"type": "object", "additionalProperties": {"type": "array", "items": {}}},
        "either": {"anyOf": [*size["anyOf"], {"type": "boolean"}]},
        "title": {"type": "string", "const": "only"},
        "idempotency_key": {
            "type": "string",
            "description": "Leave out unless you were given one.",
            "minLength": 1,
            "maxLength": 200,
        },
    }
    assert input_schema(Everything)["required"] == ["prompt", "images"]


@pytest.mark.parametrize("params", [Everything, CheckParams, Nothing])
def test_hosts_find_nothing_that_they_refuse(params: type[Params]) -> None:
    schema = input_schema(params)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert not schema.keys() & {"anyOf", "oneOf", "allOf"}
    for node in nodes(schema):
        assert not node.keys() & {"$ref", "$defs", "oneOf", "allOf", "discriminator"}
        assert isinstance(node.get("type", ""), str)
        assert node.get("type") != "null"
        assert node.get("default", ...) is not None
        assert node.get("additionalProperties") is not False
        assert node.get("type") != "array" or "items" in node
        if "properties" in node:
            assert node["type"] == "object"
    assert "docstring" not in json.dumps(schema)


def test_names_from_the_configuration_narrow_a_string() -> None:
    narrowed = input_schema(Everything, enums={"workflow": ["sketch", "poster"]})["properties"]
    assert isinstance(narrowed, dict)
    assert narrowed["workflow"] == {"type": "string", "enum": ["sketch", "poster"]}
    assert input_schema(Everything, enums={"workflow": []}) == input_schema(Everything)
    open_again = input_schema(Everything)["properties"]
    assert isinstance(open_again, dict)
    assert open_again["workflow"] == {"type": "string", "maxLength": 100}


def test_a_model_that_contains_itself_is_refused_when_declared() -> None:
    with pytest.raises(TypeError, match="contains itself"):
        input_schema(Tree)
