"""The SDK's server, with resources that notify of changes, prompts and tasks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.shared.exceptions import MCPError
from mcp.shared.uri_template import UriTemplate
from mcp_types import (
    INVALID_PARAMS,
    SERVER_INFO_META_KEY,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmptyResult,
    GetPromptResult,
    PromptReference,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    UnsubscribeRequestParams,
)
from mcp_types import Prompt as SdkPrompt
from mcp_types import Resource as SdkResource
from mcp_types import ResourceTemplate as SdkTemplate

from darkroom.core.errors import CallError, DarkroomError, call_error
from darkroom.engine.arguments.explain import nearest
from darkroom.engine.arguments.validation import unpacked
from darkroom.engine.engine import Engine
from darkroom.mcp.owner import engine_for, owner_of
from darkroom.mcp.tasks import TaskListenHandler, TasksExtension

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.mcpserver.context import Context
    from mcp_types import CallToolResult, InputRequiredResult

    from darkroom.catalogue.declarations import Resource
    from darkroom.engine.process import Links
    from darkroom.mcp.prompts import Prompts
    from darkroom.mcp.subscriptions import (
        Changes,
    )
    from darkroom.mcp.tasks import TaskSource

MOST_COMPLETIONS = 100
"""Of the protocol."""

COMPLETION_SECONDS = 3.0


async def _stamp_lightly(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Leave the icon out of the server info in every result of 2026-07-28; discovery shows it."""
    result = await call_next(ctx)
    if isinstance(result, dict) and ctx.method != "server/discover":
        meta: Any = result.get("_meta")
        if isinstance(meta, dict):
            cast("dict[str, Any]", meta).get(SERVER_INFO_META_KEY, {}).pop("icons", None)
    return result


async def _unpack_arguments(
    ctx: ServerRequestContext[Any, Any], call_next: CallNext
) -> HandlerResult:
    """Parse a call's arguments if they are a JSON string, because the SDK accepts only objects."""
    params = ctx.params
    if ctx.method == "tools/call" and params is not None:
        given = params.get("arguments")
        if given is not None and not isinstance(given, dict):
            try:
                opened = unpacked(given)
            except CallError as error:
                raise MCPError(INVALID_PARAMS, error.text) from None
            ctx = replace(ctx, params={**params, "arguments": opened})
    return await call_next(ctx)


class DarkroomServer(MCPServer[Engine]):
    """The SDK's server with declared resources and prompts, and jobs as tasks."""

    engine: Engine | None = None
    """The engine of the current lifespan; over HTTP there is only one."""

    links: Links | None = None
    """Makes links to results; set before the lifespan begins, for people who are elsewhere."""

    def __init__(
        self,
        resources: Sequence[Resource],
        changes: Changes,
        *,
        prompts: Prompts,
        tasks: TaskSource,
        **options: Any,
    ) -> None:
        super().__init__(subscriptions=changes, extensions=[TasksExtension(tasks)], **options)
        self.middleware.extend((_unpack_arguments, _stamp_lightly))
        self._prompts = prompts
        self._listen = TaskListenHandler(changes, tasks)
        self._fixed = {r.uri: r for r in resources if not UriTemplate.is_template(r.uri)}
        self._templates = {
            r.uri: (UriTemplate.parse(r.uri), r) for r in resources if r.uri not in self._fixed
        }
        self._changes = changes
        handle = self._lowlevel_server.add_request_handler
        handle("subscriptions/listen", SubscriptionsListenRequestParams, self._listen)
        handle("completion/complete", CompleteRequestParams, self._complete)
        handle("resources/subscribe", SubscribeRequestParams, self._subscribe)
        handle("resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Engine, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; a name that is not listed is refused with the nearest one.

        Raises
        ------
        ToolError: see the SDK's.
        """
        names = [tool.name for tool in self._tool_manager.list_tools()]
        if name not in names:
            near = nearest(name, names)
            raise ToolError(
                call_error(
                    "not_found",
                    f"there is no tool {name[:64]!r} here",
                    f"did you mean {near}?" if near else "call a tool of the list",
                ).text
            )
        return await super().call_tool(name, arguments, context)

    def end_streams(self) -> None:
        """End every stream of notifications properly, so that hosts see that it is intended."""
        self._listen.close()

    async def list_prompts(self) -> list[SdkPrompt]:
        """List the prompts that the listed tools can answer."""
        return self._prompts.listed()

    async def get_prompt(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        context: Context[Engine, Any] | None = None,
    ) -> GetPromptResult:
        """Return a prompt; see `Prompts.get`."""
        del context
        return self._prompts.get(name, arguments or {})

    async def list_resources(self) -> list[SdkResource]:
        """List the resources with a fixed address."""
        return [
            SdkResource(
                uri=uri,
                name=each.name,
                title=each.title,
                description=each.description,
                mime_type=each.media_type,
                _meta=cast("Any", each.meta),
            )
            for uri, each in self._fixed.items()
        ]

    async def list_resource_templates(self) -> list[SdkTemplate]:
        """List the resource templates."""
        return [
            SdkTemplate(
                uri_template=uri,
                name=each.name,
                title=each.title,
                description=each.description,
                mime_type=each.media_type,
            )
            for uri, (_, each) in self._templates.items()
        ]

    async def read_resource(
        self, uri: Any, context: Context[Engine, Any] | None = None
    ) -> Iterable[ReadResourceContents]:
        """Read a resource.

        Raises
        ------
        ResourceNotFoundError, ResourceError: with the same text as a tool's error.
        """
        resource, variables = self._find(str(uri))
        if context is None:
            raise ResourceError("a resource is read within a request")
        try:
            content = await resource.read(engine_for(context.request_context), variables)
        except CallError as error:
            kind = ResourceNotFoundError if error.failure.code == "not_found" else ResourceError
            raise kind(error.text) from None
        except DarkroomError as error:
            raise ResourceError(str(error)) from None
        meta = cast("Any", resource.meta)
        return [ReadResourceContents(content.data, content.media_type, meta)]

    def _find(self, uri: str) -> tuple[Resource, Mapping[str, str]]:
        if uri in self._fixed:
            return self._fixed[uri], {}
        for template, resource in self._templates.values():
            found = template.match(uri)
            if found is not None and all(isinstance(value, str) for value in found.values()):
                return resource, cast("Mapping[str, str]", found)
        raise ResourceNotFoundError(f"there is no resource {uri[:200]!r}")

    async def _complete(
        self, context: ServerRequestContext[Engine, Any], params: CompleteRequestParams
    ) -> CompleteResult:
        values: Sequence[str] = ()
        asked, engine = params.argument, engine_for(context)
        if isinstance(params.ref, PromptReference):
            values = await self._completed(
                self._prompts.complete(engine, params.ref.name, asked.name, asked.value)
            )
        elif params.ref.uri in self._templates:
            _, resource = self._templates[params.ref.uri]
            complete = resource.complete.get(asked.name)
            if complete is not None:
                values = await self._completed(complete(engine, asked.value))
        shown = list(values[:MOST_COMPLETIONS])
        return CompleteResult(
            completion=Completion(
                values=shown, total=len(values), has_more=len(values) > len(shown)
            )
        )

    @staticmethod
    async def _completed(values: Awaitable[Sequence[str]]) -> Sequence[str]:
        """Return the values for a completion; none if they are not available fast enough."""
        with anyio.move_on_after(COMPLETION_SECONDS), suppress(DarkroomError):
            return await values
        return ()

    async def _subscribe(
        self, context: ServerRequestContext[Engine, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        try:
            self._find(str(params.uri))
        except ResourceNotFoundError as error:
            raise MCPError(INVALID_PARAMS, str(error), {"uri": str(params.uri)}) from None
        self._changes.subscribed(str(params.uri), owner_of(context.request), context.session)
        return EmptyResult()

    async def _unsubscribe(
        self, context: ServerRequestContext[Engine, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        self._changes.unsubscribed(str(params.uri), owner_of(context.request), context.session)
        return EmptyResult()
