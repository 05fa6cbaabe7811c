"""What hosts are told: unchanged unless decided, nothing a host rejects, within the token budgets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import pytest

from darkroom.cli.token_count import count, tool_tokens
from darkroom.mcp.build import INSTRUCTIONS
from darkroom.providers.operations import JobOperation
from darkroom_tools import CATALOGUE
from tests.harness import ERAS, Era, rig
from tests.snapshots import EVERYTHING, PROVIDERS, differences, every_tool, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mcp_types import Tool

FIVE = tuple(provider.name for provider in CATALOGUE.providers)
"""The providers that are always looked for; the others stand beside them for who has their key."""

TOOLS = every_tool()
FIRST_WORDS = {name.partition("_")[0] for name in TOOLS}
each_tool = pytest.mark.parametrize("name", TOOLS)

ALL_TOKENS = 4_500
ONE_TOOL_TOKENS = 300
TYPED_TOOL_TOKENS = {"claid_start_image_edit": 750}
PROVIDER_TOKENS = 1_900
LARGE_PROVIDER_TOKENS = {"znyx": 2_300}
INSTRUCTIONS_TOKENS = 60
NAMES_AND_INSTRUCTIONS_TOKENS = 400


def tokens(tools: Iterable[Tool]) -> int:
    return sum(tool_tokens(t.name, t.description or "", t.input_schema) for t in tools)


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a schema and all schemas inside it, each with where it stands."""
    yield path, schema
    inside: dict[str, Any] = {
        **{
            f"{path}.{keyword}.{name}": inner
            for keyword in ("properties", "patternProperties", "$defs", "definitions")
            for name, inner in schema.get(keyword, {}).items()
        },
        **{
            f"{path}.{keyword}[{index}]": inner
            for keyword in ("anyOf", "oneOf", "allOf", "prefixItems")
            for index, inner in enumerate(schema.get(keyword, []))
        },
        **{
            f"{path}.{keyword}": schema[keyword]
            for keyword in ("items", "additionalProperties", "propertyNames", "contains", "not")
            if isinstance(schema.get(keyword), dict)
        },
    }
    for where, inner in inside.items():
        yield from schemas(cast("dict[str, Any]", inner), where)


# --- unchanged unless decided ---


def test_every_tool_is_as_its_snapshot_says() -> None:
    assert differences() == [], "decide, then: make snapshots"


@pytest.mark.anyio
@pytest.mark.parametrize("era", ERAS)
async def test_a_client_of_either_era_is_told_what_the_snapshots_say(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    async with rig(clock, tmp_path, catalogue=EVERYTHING).client(era) as client:
        told = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(told) == [name for name in TOOLS if name != "get_setup"]
    assert told == {name: TOOLS[name] for name in told}


# --- nothing a host rejects ---


@each_tool
def test_a_name_fits_every_host(name: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert len(name) <= 40


@each_tool
def test_a_schema_has_nothing_that_hosts_reject(name: str) -> None:
    root = TOOLS[name].input_schema
    assert root["type"] == "object"
    assert not {"anyOf", "oneOf", "allOf", "not", "enum"} & root.keys()
    for where, schema in schemas(root):
        assert not {"$defs", "$ref", "$schema", "title"} & schema.keys(), where
        assert isinstance(schema.get("type", ""), str), f"{where}: an array of types"
        assert schema.get("type") != "null", where
        assert schema.get("default", 0) is not None, where
        assert None not in schema.get("enum", []), where
        assert schema.get("additionalProperties") is not False, f"{where}: no converter reads it"
        if schema.get("type") == "array":
            assert isinstance(schema.get("items"), dict), f"{where}: an array without items"


def test_the_walk_reaches_an_array_wherever_it_stands() -> None:
    bare: dict[str, Any] = {"type": "array"}
    around: list[dict[str, Any]] = [
        {"properties": {"a": bare}},
        {"items": bare},
        {"additionalProperties": bare},
        {"anyOf": [{"type": "string"}, {"$defs": {"a": bare}}]},
        {"properties": {"a": {"additionalProperties": {"anyOf": [{"items": bare}]}}}},
    ]
    for schema in around:
        assert any(inner is bare for _, inner in schemas(schema)), schema


@each_tool
def test_all_hints_are_stated_and_no_output_schema(name: str) -> None:
    tool = TOOLS[name]
    assert tool.output_schema is None
    assert tool.title
    assert tool.annotations is not None
    hints = tool.annotations.model_dump(by_alias=True, exclude={"title"})
    assert hints.keys() == {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
    assert all(isinstance(hint, bool) for hint in hints.values()), hints
    assert not (hints["readOnlyHint"] and hints["destructiveHint"])


@each_tool
def test_a_description_is_at_most_two_sentences_and_names_only_what_there_is(name: str) -> None:
    description = TOOLS[name].description or ""
    assert description.endswith(".")
    assert 1 <= len(re.findall(r"[.!?](?=\s|$)", description)) <= 2
    words = re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", description)
    assert {word for word in words if word.partition("_")[0] in FIRST_WORDS} <= TOOLS.keys()


STARTS = [o for p in EVERYTHING.providers for o in p.operations if isinstance(o, JobOperation)]


@pytest.mark.parametrize("operation", STARTS, ids=lambda operation: operation.name)
def test_a_start_tool_names_its_check_tool_last(operation: JobOperation) -> None:
    last = re.split(r"(?<=[.!?])\s+", operation.description)[-1]
    assert operation.check_tool in last
    assert operation.check_tool in TOOLS


@each_tool
def test_an_idempotency_key_stands_last_and_nobody_is_asked_to_invent_one(name: str) -> None:
    properties: dict[str, Any] = TOOLS[name].input_schema["properties"]
    if "idempotency_key" in properties:
        assert list(properties)[-1] == "idempotency_key"
        assert "Leave out" in properties["idempotency_key"]["description"]
    assert ("idempotency_key" in properties) == (name in {*map(_name, STARTS), "start_batch"})


def _name(operation: JobOperation) -> str:
    return operation.name


# --- within the budgets ---


@each_tool
def test_a_tool_is_within_its_token_budget(name: str) -> None:
    assert tokens([TOOLS[name]]) <= TYPED_TOOL_TOKENS.get(name, ONE_TOOL_TOKENS)


def test_all_tools_together_are_within_their_token_budget() -> None:
    assert count("")[1], "counted, not estimated"
    assert tokens(listed(FIVE).values()) <= ALL_TOKENS


@pytest.mark.parametrize("provider", PROVIDERS)
def test_one_provider_with_the_neutral_tools_is_within_its_token_budget(provider: str) -> None:
    budget = LARGE_PROVIDER_TOKENS.get(provider, PROVIDER_TOKENS)
    assert tokens(listed([provider]).values()) <= budget


def test_names_and_instructions_are_within_their_token_budget() -> None:
    instructions = count(INSTRUCTIONS)[0]
    assert instructions <= INSTRUCTIONS_TOKENS
    names = sum(count(name)[0] for name in listed(FIVE))
    assert instructions + names <= NAMES_AND_INSTRUCTIONS_TOKENS
