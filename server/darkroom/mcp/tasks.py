"""The Tasks extension (SEP-2663, only in 2026-07-28): its methods and messages.

A call that starts a job is answered with a task if the request declares support of tasks. For all
other requests nothing changes. A `TaskSource` provides the tasks; `darkroom.mcp.job_tasks` does so
for the jobs of this server.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

import anyio
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    Notification,
    RequestParams,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
    from mcp.server.session import ServerSession
    from mcp.server.subscriptions import SubscriptionBus

IDENTIFIER = "io.modelcontextprotocol/tasks"
VERSIONS = frozenset({"2026-07-28"})
MOST_TASKS = 256
"""Maximum number of tasks that one stream is notified of."""

Status = Literal["working", "input_required", "completed", "failed", "cancelled"]
ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The current state of a task. Times are ISO 8601.

    ``result``, ``error`` and ``input_requests`` are protocol objects: the first for ``completed``,
    the second for ``failed`` (an error of the protocol, not of a tool), the third for
    ``input_required``.
    """

    task_id: str
    status: Status
    created_at: str
    updated_at: str
    message: str | None = None
    ttl_ms: int | None = None
    poll_ms: int | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    input_requests: dict[str, Any] | None = None

    def seed(self) -> dict[str, Any]:
        """Return the fields that every task has."""
        fields: dict[str, Any] = {
            "taskId": self.task_id,
            "status": self.status,
            "createdAt": self.created_at,
            "lastUpdatedAt": self.updated_at,
            "ttlMs": self.ttl_ms,
        }
        if self.message is not None:
            fields["statusMessage"] = self.message
        if self.poll_ms is not None:
            fields["pollIntervalMs"] = self.poll_ms
        return fields

    def detailed(self) -> dict[str, Any]:
        """Return the fields of the task, including those that depend on its status."""
        inside = {
            "result": self.result,
            "error": self.error,
            "inputRequests": self.input_requests,
        }
        return self.seed() | {key: value for key, value in inside.items() if value is not None}


Context = Any
"""The SDK's ``ServerRequestContext``."""


class TaskSource(Protocol):
    """Provides tasks. Each method concerns only the tasks of the owner behind the context."""

    def required(self, tool: str) -> bool:
        """Tell whether a tool can be called only by hosts that support tasks."""
        ...

    async def begun(self, context: Context, tool: str, result: CallToolResult) -> Task | None:
        """Return the task that a call has started; None: the call's result is returned."""
        ...

    async def find(self, context: Context, task_id: str) -> Task | None:
        """Return a task; None if this owner has none with this id."""
        ...

    async def changed(self, context: Context, task: Task) -> None:
        """Return when a task may have changed."""
        ...

    async def update(self, context: Context, task_id: str, responses: dict[str, Any]) -> None:
        """Process the answers to a task's questions; ignore answers to other questions."""
        ...

    async def cancel(self, context: Context, task_id: str) -> None:
        """Begin to cancel a task, if it can be cancelled."""
        ...


class _TaskParams(RequestParams):
    task_id: str = Field(alias="taskId", max_length=200)


class _UpdateParams(_TaskParams):
    input_responses: dict[str, Any] = Field(alias="inputResponses")


class TasksExtension(Extension):
    """Adds tasks to ``tools/call``, and the three methods of the extension."""

    identifier: ClassVar[str] = IDENTIFIER  # pyright: ignore[reportIncompatibleVariableOverride] -- the SDK declares it as of an instance

    def __init__(self, source: TaskSource) -> None:
        self.source = source

    def methods(self) -> Sequence[MethodBinding]:
        """Return ``tasks/get``, ``tasks/update`` and ``tasks/cancel``."""
        return (
            MethodBinding("tasks/get", _TaskParams, self._get, VERSIONS),
            MethodBinding("tasks/update", _UpdateParams, self._update, VERSIONS),
            MethodBinding("tasks/cancel", _TaskParams, self._cancel, VERSIONS),
        )

    async def intercept_tool_call(
        self,
        params: CallToolRequestParams,
        ctx: ServerRequestContext[Any, Any],
        call_next: CallNext,
    ) -> HandlerResult:
        """Answer with a task if the call has started one and the host supports tasks."""
        if ctx.protocol_version not in VERSIONS:
            return await call_next(ctx)
        if not declared(ctx):
            if self.source.required(params.name):
                require_client_extension(ctx, IDENTIFIER)
            return await call_next(ctx)
        result = await call_next(ctx)
        if isinstance(result, CallToolResult) and not result.is_error:
            task = await self.source.begun(ctx, params.name, result)
            if task is not None:
                return {"resultType": "task", **task.seed()}
        return result

    async def _get(self, context: Context, params: _TaskParams) -> HandlerResult:
        return (await self._find(context, params)).detailed()

    async def _update(self, context: Context, params: _UpdateParams) -> HandlerResult:
        await self._find(context, params)
        await self.source.update(context, params.task_id, params.input_responses)
        return {}

    async def _cancel(self, context: Context, params: _TaskParams) -> HandlerResult:
        task = await self._find(context, params)
        if task.status not in ENDED:
            await self.source.cancel(context, params.task_id)
        return {}

    async def _find(self, context: Context, params: _TaskParams) -> Task:
        require_client_extension(context, IDENTIFIER)
        # A request without the header is accepted: it is for routing, and a client that
        # many use (fastmcp-tasks 4.1) does not send it.
        if context.request is not None and MCP_NAME_HEADER in context.request.headers:
            named = decode_header_value(context.request.headers[MCP_NAME_HEADER])
            if named != params.task_id:
                raise MCPError(HEADER_MISMATCH, f"{MCP_NAME_HEADER} has to be the taskId")
        task = await self.source.find(context, params.task_id)
        if task is None:
            raise MCPError(INVALID_PARAMS, "there is no such task")
        return task


def declared(context: Context) -> bool:
    """Tell whether this request declares support of tasks."""
    capabilities = context.session.client_capabilities
    return IDENTIFIER in ((capabilities.extensions if capabilities else None) or {})


def known(context: Context) -> bool:
    """Tell whether a call may be answered with a task."""
    return context.protocol_version in VERSIONS and declared(context)


class _TaskNotification(Notification[Any, Any]):
    method: Literal["notifications/tasks"] = "notifications/tasks"
    params: dict[str, Any]


class TaskListenHandler(ListenHandler):
    """``subscriptions/listen`` with notifications of tasks (``notifications.taskIds``)."""

    def __init__(self, bus: SubscriptionBus, source: TaskSource) -> None:
        super().__init__(bus)
        self._source = source

    async def __call__(
        self, ctx: Context, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one stream; a notification has the same content as ``tasks/get``."""
        wanted = (params.notifications.model_extra or {}).get("taskIds")
        if wanted is None:
            return await super().__call__(ctx, params)
        require_client_extension(ctx, IDENTIFIER)
        if not isinstance(wanted, list):
            raise MCPError(INVALID_PARAMS, "taskIds: expected a list of ids")
        tasks = await self._known(ctx, cast("list[object]", wanted))
        session = _Acknowledging(ctx.session, [task.task_id for task in tasks])
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(self._tell, ctx, session, task)
            result = await super().__call__(replace(ctx, session=cast("Any", session)), params)
            group.cancel_scope.cancel()
            return result
        raise AssertionError  # for the type checker: only a cancelled group would get here

    async def _known(self, context: Context, wanted: list[object]) -> list[Task]:
        ids = dict.fromkeys(task_id for task_id in wanted if isinstance(task_id, str))
        found = [await self._source.find(context, task_id) for task_id in list(ids)[:MOST_TASKS]]
        return [task for task in found if task is not None]

    async def _tell(self, context: Context, session: _Acknowledging, task: Task) -> None:
        await session.acknowledged.wait()
        meta = {SUBSCRIPTION_ID_META_KEY: context.request_id}
        while True:
            told = _TaskNotification(params={**task.detailed(), "_meta": meta})
            await session.send_notification(told, related_request_id=context.request_id)
            if task.status in ENDED:
                return
            await self._source.changed(context, task)
            newer = await self._source.find(context, task.task_id)
            if newer is None:
                return
            task = newer


class _Acknowledging:
    """A session whose acknowledgement also names the tasks."""

    def __init__(self, session: ServerSession, task_ids: list[str]) -> None:
        self._session = session
        self._task_ids = task_ids
        self.acknowledged = anyio.Event()

    async def send_notification(self, notification: Any, related_request_id: Any = None) -> None:
        """Send; see ``ServerSession``."""
        if isinstance(notification, SubscriptionsAcknowledgedNotification):
            honored = notification.params.notifications
            notification = notification.model_copy(
                update={
                    "params": notification.params.model_copy(
                        update={
                            "notifications": type(honored).model_validate(
                                honored.model_dump(exclude_none=True) | {"taskIds": self._task_ids}
                            )
                        }
                    )
                }
            )
            await self._session.send_notification(notification, related_request_id)
            self.acknowledged.set()
            return
        await self._session.send_notification(notification, related_request_id)
