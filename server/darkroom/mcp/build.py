"""Builds the MCP server from settings and catalogues."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools.base import Tool as SdkTool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import (
    CallToolResult,
    Icon,
    ImageContent,
    InputRequiredResult,
    ResourceLink,
    TextContent,
    ToolAnnotations,
)

from darkroom import __version__
from darkroom.catalogue.dispatch import ToolHandler, desks
from darkroom.catalogue.selection import NO_TOOLS
from darkroom.core.errors import CallError
from darkroom.core.log import log
from darkroom.engine.engine import Engine, running
from darkroom.mcp.elicitation import HostPerson, InputNeededError
from darkroom.mcp.icon import ICON
from darkroom.mcp.job_tasks import JobTasks
from darkroom.mcp.owner import engine_for
from darkroom.mcp.prompts import Prompts
from darkroom.mcp.server import DarkroomServer
from darkroom.mcp.subscriptions import Changes
from darkroom.mcp.tasks import known
from darkroom.providers.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.context import Context

    from darkroom.catalogue.declarations import Catalogue, Resource, Result
    from darkroom.config.settings import Settings
    from darkroom.engine.dependencies import Dependencies
    from darkroom.providers.provider import Provider

NAME = "darkroom"
_JOBS = (
    "Start tools return a job: call the check tool it names until the job ends, and never start "
    "it again because an answer is missing. "
)
INSTRUCTIONS = (
    f"{_JOBS}Results are saved as files on the person's machine. "
    "A picture may be an address, a local path or job:<job_id>."
)
TEAM_INSTRUCTIONS = (
    f"{_JOBS}Results are links that end after ten minutes; the check tool makes new ones. "
    "A picture may be an address or job:<job_id>."
)

STEADY: tuple[CacheableMethod, ...] = (
    "server/discover",
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
)
"""Methods whose results do not change while the process runs."""

STEADY_MS = 300_000
"""How long hosts may cache them; the next process may have other keys and thus other tools."""


class DarkroomTool(SdkTool):
    """A tool of the SDK that is run by a `ToolHandler`.

    The SDK's own implementation would silently drop unknown arguments and prefix every error.
    """

    handler: Any

    async def run(
        self,
        arguments: dict[str, Any],
        context: Context[Any, Any],
        convert_result: bool = False,  # noqa: FBT001, FBT002 -- the SDK's
    ) -> CallToolResult | InputRequiredResult:
        """Run with the unchanged arguments; see `ToolHandler.run`."""
        del convert_result
        handler = cast("ToolHandler", self.handler)
        request = context.request_context
        engine = engine_for(request)
        person = HostPerson(context, knows_tasks=known(request), use=engine.use_yes)
        try:
            result = await handler.run(engine, arguments, person)
        except CallError as error:
            raise ToolError(error.text) from None
        except InputNeededError as needed:
            return needed.result
        return to_sdk(result)


def to_sdk(result: Result) -> CallToolResult:
    """Turn a result into the SDK's."""
    pictures = [
        ImageContent(
            type="image", data=base64.b64encode(each.data).decode(), mime_type=each.media_type
        )
        for each in result.pictures
    ]
    links = [
        ResourceLink(type="resource_link", uri=each.url, name=each.name, mime_type=each.media_type)
        for each in result.links
    ]
    return CallToolResult(
        content=[TextContent(type="text", text=result.text), *pictures, *links],
        structured_content=cast("dict[str, Any] | None", result.structured),
        _meta=cast("Any", result.meta),
    )


async def _never(**_: object) -> None:
    """Do nothing: the SDK requires a function, but `DarkroomTool.run` is called instead."""


def sdk_tool(handler: ToolHandler) -> DarkroomTool:
    """Return the SDK's tool for a handler."""
    tool = handler.tool
    return DarkroomTool(
        fn=_never,
        name=tool.name,
        description=tool.description,
        parameters=cast("dict[str, Any]", handler.schema),
        fn_metadata=FuncMetadata(arg_model=ArgModelBase),
        is_async=True,
        context_kwarg=None,
        title=tool.title,
        annotations=ToolAnnotations(
            read_only_hint=tool.hints.read_only,
            destructive_hint=tool.hints.destructive,
            idempotent_hint=tool.hints.idempotent,
            open_world_hint=tool.hints.open_world,
        ),
        meta=cast("dict[str, Any] | None", tool.meta),
        handler=handler,
    )


def providers_of(catalogues: Sequence[Catalogue]) -> tuple[Provider, ...]:
    """Return the providers of all catalogues."""
    return tuple(provider for catalogue in catalogues for provider in catalogue.providers)


def resources_of(catalogues: Sequence[Catalogue]) -> tuple[Resource, ...]:
    """Return the resources of all catalogues."""
    return tuple(resource for catalogue in catalogues for resource in catalogue.resources)


def build_server(
    settings: Settings, catalogues: Sequence[Catalogue], dependencies: Dependencies
) -> DarkroomServer:
    """Build the server. Its engine runs during the server's lifespan."""
    providers = providers_of(catalogues)
    credentials = Credentials(dependencies.environment, settings)
    found = desks(catalogues, credentials.available, settings)
    if not found:
        log.warning("%s", NO_TOOLS)

    changes = Changes()

    @asynccontextmanager
    async def lifespan(_: MCPServer[Engine]) -> AsyncGenerator[Engine]:
        async with (
            running(providers, settings, dependencies) as engine,
            changes.told_by(engine.process),
        ):
            server.engine = engine
            engine.process.links = server.links
            try:
                yield engine
            finally:
                server.engine = None

    server = DarkroomServer(
        resources_of(catalogues),
        changes,
        prompts=Prompts((p for c in catalogues for p in c.prompts), found),
        tasks=JobTasks(found, to_sdk),
        name=NAME,
        title="Darkroom",
        version=__version__,
        instructions=INSTRUCTIONS if settings.team.issuer is None else TEAM_INSTRUCTIONS,
        icons=[Icon(src=ICON, mime_type="image/svg+xml", sizes=["any"])],
        cache_hints=dict.fromkeys(STEADY, CacheHint(ttl_ms=STEADY_MS)),
        tools=[sdk_tool(handler) for handler in found.values()],
        lifespan=lifespan,
        log_level="WARNING",
    )
    return server
