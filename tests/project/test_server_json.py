"""``server.json`` for the MCP registry: what its schema 2025-12-11 asks for, and true."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema

from darkroom import __version__
from darkroom.cli.command_line import parser
from darkroom.config.settings import CONFIG_VARIABLE
from darkroom.mcp.build import NAME
from darkroom_tools import CATALOGUE

ROOT = Path(__file__).parents[2]
ENTRY = json.loads((ROOT / "server.json").read_text("utf-8"))
PACKAGE = ENTRY["packages"][0]

PLACEHOLDER = "com.example/darkroom"
"""Of a domain that is reserved for examples: nobody can publish under it by mistake."""

TEXT = {"type": "string", "minLength": 1}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["$schema", "name", "description", "version", "packages"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"pattern": r"/schemas/2025-12-11/server\.schema\.json$"},
        "name": {
            "type": "string",
            "pattern": r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$",
            "minLength": 3,
            "maxLength": 200,
        },
        "title": {**TEXT, "maxLength": 100},
        "description": {**TEXT, "maxLength": 100},
        "version": {**TEXT, "maxLength": 255, "not": {"enum": ["latest"]}},
        "repository": {
            "type": "object",
            "required": ["url", "source"],
            "additionalProperties": False,
            "properties": {"url": {"type": "string", "pattern": "^https://"}, "source": TEXT},
        },
        "packages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["registryType", "identifier", "version", "transport"],
                "additionalProperties": False,
                "properties": {
                    "registryType": {"enum": ["npm", "pypi", "oci", "nuget", "mcpb"]},
                    "identifier": TEXT,
                    "version": {**TEXT, "not": {"enum": ["latest"]}},
                    "runtimeHint": TEXT,
                    "transport": {
                        "type": "object",
                        "required": ["type"],
                        "additionalProperties": False,
                        "properties": {"type": {"const": "stdio"}},
                    },
                    "packageArguments": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["type", "value"],
                            "additionalProperties": False,
                            "properties": {"type": {"const": "positional"}, "value": TEXT},
                        },
                    },
                    "environmentVariables": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["name", "description"],
                            "additionalProperties": False,
                            "properties": {
                                "name": {"type": "string", "pattern": "^[A-Z][A-Z0-9_]*$"},
                                "description": TEXT,
                                "isSecret": {"type": "boolean"},
                                "isRequired": {"type": "boolean"},
                                "format": {"enum": ["string", "number", "boolean", "filepath"]},
                            },
                        },
                    },
                },
            },
        },
    },
}
"""The part of the registry's schema that an entry like ours uses, closed."""


def test_the_entry_is_valid() -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(ENTRY)  # pyright: ignore[reportUnknownMemberType] -- partly typed


def test_the_entry_names_this_distribution_and_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert PACKAGE["identifier"] == project["name"]
    assert ENTRY["version"] == PACKAGE["version"] == project["version"] == __version__
    assert ENTRY["name"].rpartition("/")[2] == NAME


def test_the_name_is_claimed_where_the_registry_looks_or_is_a_placeholder() -> None:
    """The registry takes a name only if the distribution's README says ``mcp-name: NAME``."""
    claimed = re.findall(r"mcp-name: ([\w./-]+)", (ROOT / "README.md").read_text("utf-8"))
    assert claimed == ([] if ENTRY["name"] == PLACEHOLDER else [ENTRY["name"]])
    assert ("repository" in ENTRY) == (ENTRY["name"] != PLACEHOLDER)


def test_the_distribution_has_a_command_of_its_own_name() -> None:
    """``uvx NAME`` runs the command that is called as the distribution is."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert PACKAGE["runtimeHint"] == "uvx"
    assert scripts[PACKAGE["identifier"]] == scripts["darkroom"]


def test_the_command_is_understood() -> None:
    arguments = [each["value"] for each in PACKAGE["packageArguments"]]
    assert parser().parse_args(arguments).command == "serve"


def test_the_variables_are_those_that_are_read() -> None:
    listed = {each["name"]: each.get("isSecret", False) for each in PACKAGE["environmentVariables"]}
    secrets = {c.variable: True for p in CATALOGUE.providers for c in p.credentials}
    assert listed == secrets | {CONFIG_VARIABLE: False}
    for each in PACKAGE["environmentVariables"]:
        assert re.search(r"\w\.$", each["description"])
