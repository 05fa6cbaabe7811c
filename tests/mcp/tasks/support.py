"""A client that knows tasks."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import anyio
from mcp.client.extension import ClaimContext, ClientExtension, NotificationBinding, ResultClaim
from mcp_types import (
    CallToolResult,
    Request,
    Result,
    SubscriptionFilter,
    SubscriptionsListenRequest,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)
from pydantic import BaseModel, ConfigDict

from darkroom.mcp.tasks import IDENTIFIER
from mcp import Client

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from mcp.client.session import ElicitationFnT

    from tests.harness import Era, Fields, Rig

PROMPT = "A lighthouse at dusk"
ACKNOWLEDGED = {"resultType": "complete"}


class Wire(BaseModel):
    """Whatever came, by the names it has on the wire."""

    model_config = ConfigDict(extra="allow")


class TaskResult(Result):
    """What a call answers that has become a task."""

    model_config = ConfigDict(extra="allow")
    result_type: Literal["task"] = "task"


class Answer(Result):
    """Any result, by the names it has on the wire."""

    model_config = ConfigDict(extra="allow")


class TaskClient(ClientExtension):
    """Declares tasks; a call that became one returns the task as structured content."""

    identifier = IDENTIFIER

    def __init__(self) -> None:
        self.told: list[Fields] = []
        self.over = anyio.Event()

    def claims(self) -> Sequence[ResultClaim[Any]]:
        async def resolve(result: TaskResult, context: ClaimContext) -> CallToolResult:
            del context
            return CallToolResult(content=[], structured_content={"task": result.model_extra})

        return (ResultClaim(result_type="task", model=TaskResult, resolve=resolve),)

    def notifications(self) -> Sequence[NotificationBinding[Any]]:
        async def told(params: Wire) -> None:
            self.told.append(dict(params.model_extra or {}))
            if self.told[-1]["status"] not in {"working", "input_required"}:
                self.over.set()

        return (NotificationBinding(method="notifications/tasks", params_type=Wire, handler=told),)


@asynccontextmanager
async def task_client(
    rig: Rig,
    era: Era = "auto",
    *,
    knows: TaskClient | None = None,
    elicitation: ElicitationFnT | None = None,
) -> AsyncGenerator[Client]:
    """Connect a client that knows tasks."""
    extensions = [knows or TaskClient()]
    async with Client(
        rig.server, mode=era, extensions=extensions, elicitation_callback=elicitation
    ) as client:
        yield client


async def ask(client: Client, method: str, **params: Any) -> Fields:
    """Send a request of the extension; return its result as it is on the wire."""
    request = Request[dict[str, Any], str](method=method, params=params)
    answer = await client.session.send_request(request, Answer)
    return dict(answer.model_extra or {})


async def started(client: Client, tool: str = "zsky_start_image", /, **arguments: object) -> Fields:
    """Start a job; return its task."""
    return (await result(client, tool, **(arguments or {"prompt": PROMPT})))["task"]


async def result(client: Client, tool: str, /, **arguments: object) -> Fields:
    """Call a tool that must succeed; return its structured content."""
    found = await client.call_tool(tool, arguments)
    assert isinstance(found, CallToolResult)
    assert not found.is_error, found.content
    return found.structured_content or {}


async def ended(client: Client, task_id: str) -> Fields:
    """Ask for a task, as often as it says, until it has ended."""
    while True:
        task = await ask(client, "tasks/get", taskId=task_id)
        if task["status"] not in {"working", "input_required"}:
            return task
        await anyio.sleep(task["pollIntervalMs"] / 1_000)


async def listen(client: Client, *task_ids: str) -> None:
    """Let a stream tell of tasks."""
    filtered = SubscriptionFilter.model_validate({"taskIds": list(task_ids)})
    params = SubscriptionsListenRequestParams(notifications=filtered)
    request = SubscriptionsListenRequest(params=params)
    await client.session.send_request(request, SubscriptionsListenResult)
