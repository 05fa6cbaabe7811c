"""What hosts are told of every tool, kept beside the tests: a changed schema is a visible decision.

``python -m tests.snapshots --write`` rewrites the files; without ``--write`` it names what differs.
The schemas that the catalogue brings along, so that a start need not make them, are written too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

import darkroom_tools
from darkroom.catalogue.loading import completed
from darkroom.config.settings import load
from darkroom.engine.dependencies import Dependencies
from darkroom.mcp.build import build_server
from darkroom_tools import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mcp_types import Tool

FOLDER = Path(__file__).parent / "tools"
BROUGHT = Path(darkroom_tools.__file__).with_name("schemas.json")
EVERYTHING = completed(CATALOGUE)
"""The catalogue with the providers that a server imports only where they are used."""

ANEW = replace(EVERYTHING, schemas=None)
"""The catalogue, if nothing were made beforehand."""
PROVIDERS = tuple(provider.name for provider in EVERYTHING.providers)


def listed(providers: Collection[str] = PROVIDERS) -> dict[str, Tool]:
    """Return the tools that are listed when these providers have all their credentials."""
    environment = {
        credential.variable: "present"
        for provider in EVERYTHING.providers
        if provider.name in providers
        for credential in provider.credentials
    }
    settings = load(EVERYTHING.providers, environment)
    server = build_server(settings, [ANEW], Dependencies(environment=environment))
    return {tool.name: tool for tool in anyio.run(server.list_tools, backend="trio")}


def every_tool() -> dict[str, Tool]:
    """Return every tool that is ever listed, ``get_setup`` too."""
    return listed(()) | listed()


def snapshot(tool: Tool) -> str:
    """Write down what a host is told of a tool."""
    fields = tool.model_dump(by_alias=True, exclude_none=True, mode="json")
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def differences() -> list[str]:
    """Name the tools whose snapshot is missing, outdated or left over."""
    tools = every_tool()
    kept = {path.stem: path.read_text("utf-8") for path in FOLDER.glob("*.json")}
    wrong = [name for name, tool in tools.items() if kept.get(name) != snapshot(tool)]
    wrong += [BROUGHT.stem] if _brought() != _schemas(tools) else []
    return sorted({*wrong, *(kept.keys() - tools.keys())})


def _brought() -> str:
    return BROUGHT.read_text("utf-8") if BROUGHT.exists() else ""


def _schemas(tools: Mapping[str, Tool]) -> str:
    schemas = {name: tool.input_schema for name, tool in tools.items()}
    return json.dumps(schemas, ensure_ascii=False, separators=(",", ":")) + "\n"


def write() -> list[str]:
    """Rewrite what differs, and name it."""
    changed, tools = differences(), every_tool()
    FOLDER.mkdir(exist_ok=True)
    for name in changed:
        if name == BROUGHT.stem:
            BROUGHT.write_text(_schemas(tools), "utf-8")
            continue
        path = FOLDER / f"{name}.json"
        if name in tools:
            path.write_text(snapshot(tools[name]), "utf-8")
        else:
            path.unlink()
    return changed
