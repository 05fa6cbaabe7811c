"""A server under test: the shipped server, the emulators behind it, virtual time, both eras."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from mcp_types import CallToolResult, TextContent

from darkroom.config.settings import load
from darkroom.core.ids import new_id
from darkroom.engine.dependencies import Dependencies
from darkroom.jobs.store import Alone, Storage
from darkroom.mcp.build import build_server
from darkroom_tools import CATALOGUE
from darkroom_tools.emulators.sandbox import Sandbox
from mcp import Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    import httpx2
    from mcp.client.session import ElicitationFnT
    from mcp.server.mcpserver import MCPServer

    from darkroom.catalogue.declarations import Catalogue
    from darkroom.config.settings import Settings
    from darkroom.engine.engine import Engine
    from darkroom.jobs.store import Store

Era = Literal["auto", "legacy"]
ERAS: tuple[Era, ...] = ("auto", "legacy")
"""``auto`` is 2026-07-28 in process, ``legacy`` the initialize handshake of 2025-11-25."""

T = TypeVar("T")
Fields: TypeAlias = dict[str, Any]
"""Structured content, as loosely typed as JSON is in a test."""


async def inline(work: Callable[[], T], /) -> T:
    """Run blocking work in place: threads time out spuriously on virtual time."""
    return work()


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A server, its emulators and its folders. Nothing runs until `client` is entered."""

    server: MCPServer[Engine]
    sandbox: Sandbox
    settings: Settings
    environment: Mapping[str, str]
    dependencies: Dependencies
    state: Path
    results: Path

    @asynccontextmanager
    async def client(
        self, era: Era = "auto", *, elicitation: ElicitationFnT | None = None
    ) -> AsyncGenerator[Client]:
        """Connect a client; the server's machine lives as long as the connection."""
        async with Client(self.server, mode=era, elicitation_callback=elicitation) as client:
            yield client


def rig(
    clock: Callable[[], float],
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    without: tuple[str, ...] = (),
    store: Literal["memory", "sqlite"] = "memory",
    open_store: Callable[[Settings], Awaitable[Store]] | None = None,
    switches: Mapping[str, Mapping[str, object]] | None = None,
    transport: httpx2.AsyncBaseTransport | None = None,
    sandbox: Sandbox | None = None,
    seed: int = 0,
    time_scale: float = 1.0,
    catalogue: Catalogue = CATALOGUE,
) -> Rig:
    """Build a server over emulators.

    ``environment`` adds to (and overrides) the sandbox's variables, ``without`` removes some.
    ``switches``: emulator -> its own keyword arguments. ``transport`` replaces the way to the
    emulators (a failing one, say). ``sandbox``: emulators that an earlier rig used.
    ``time_scale``: factor on how long jobs take, which the server knows of.
    ``catalogue`` takes the place of ours.
    """
    if sandbox is None:
        sandbox = Sandbox(
            clock=clock, seed=seed, time_scale=time_scale, switches=cast("Any", switches or {})
        )
    variables = {
        **sandbox.environment(),
        "DARKROOM_JOBS__STORE": store,
        "DARKROOM_JOBS__STATE_DIR": str(folder / "state"),
        "DARKROOM_RESULTS__FOLDER": str(folder / "results"),
        **(environment or {}),
    }
    for name in without:
        del variables[name]
    settings = load(catalogue.providers, variables, tools=[t.name for t in catalogue.tools])
    way = transport or sandbox.transport()

    async def open_sqlite(settings: Settings) -> Store:
        from darkroom.jobs.storage.sqlite import SqliteStore  # noqa: PLC0415 -- as the machine does

        return await SqliteStore.open(settings.state_dir / "journal.sqlite", run=inline)

    opener = open_store or (open_sqlite if store == "sqlite" else None)

    async def alone(settings: Settings) -> Storage:
        assert opener is not None
        return Storage(await opener(settings), Alone(new_id()))

    dependencies = Dependencies(
        environment=variables,
        clock=clock,
        chance=random.Random(seed),  # noqa: S311 -- repeatable, not secret
        run=inline,
        transport=way,
        sandbox=way,
        open_storage=alone if opener is not None else None,
        time_scale=time_scale,
    )
    return Rig(
        server=build_server(settings, [catalogue], dependencies),
        sandbox=sandbox,
        settings=settings,
        environment=variables,
        dependencies=dependencies,
        state=folder / "state",
        results=folder / "results",
    )


async def call(client: Client, tool: str, /, **arguments: object) -> Fields:
    """Call a tool that must succeed; return its structured content."""
    result = await client.call_tool(tool, dict(arguments))
    assert isinstance(result, CallToolResult)
    assert not result.is_error, text_of(result)
    return cast("Fields", result.structured_content)


async def refused(client: Client, tool: str, /, **arguments: object) -> str:
    """Call a tool that must fail; return the text of its error."""
    result = await client.call_tool(tool, dict(arguments))
    assert isinstance(result, CallToolResult)
    assert result.is_error, result.structured_content
    return text_of(result)


def text_of(result: CallToolResult) -> str:
    """Return the text of a result."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))
