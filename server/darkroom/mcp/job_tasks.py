"""The jobs of this server as tasks: a task has the job's id and the result of its check tool."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, TextContent

from darkroom.catalogue.declarations import Tool
from darkroom.catalogue.dispatch import job_result
from darkroom.core.errors import CallError
from darkroom.core.log import log
from darkroom.core.times import iso
from darkroom.engine.person import Nobody
from darkroom.mcp.elicitation import answer, requests
from darkroom.mcp.owner import engine_for
from darkroom.mcp.tasks import ENDED, Task
from darkroom.providers.operations import JobOperation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

    from darkroom.catalogue.declarations import LongRunning, Result
    from darkroom.catalogue.dispatch import ToolHandler
    from darkroom.engine.engine import Engine
    from darkroom.jobs.model import Job as Row
    from darkroom.jobs.registry import LiveJob

LONGEST_WAIT_SECONDS = 3_600.0
LOOK_SECONDS = 30.0
"""How often a batch is read whose jobs another process may hold."""

PAUSE_SECONDS = 1.0
"""Changes of a batch within this time are reported together."""


class JobTasks:
    """A `TaskSource` for the jobs of the registry. ``listed``: the tools that may be called."""

    def __init__(
        self, listed: Mapping[str, ToolHandler], shown: Callable[[Result], CallToolResult]
    ) -> None:
        self._listed = listed
        self._shown = shown

    def required(self, tool: str) -> bool:
        """Return False: no tool requires tasks, because each has a check tool."""
        del tool
        return False

    async def begun(self, context: Any, tool: str, result: CallToolResult) -> Task | None:
        """Return the task of a start, unless its job has already ended."""
        handler = self._listed.get(tool)
        long_running = self._long_running(tool)
        if long_running is None and (handler is None or not isinstance(handler.tool, JobOperation)):
            return None
        fields = cast("dict[str, object]", result.structured_content or {})
        key = long_running.argument if long_running is not None else "job_id"
        task = await self.find(context, str(fields.get(key)))
        return task if task is not None and task.status not in ENDED else None

    def _long_running(self, tool: str) -> LongRunning | None:
        """Return the check and cancel tools of a neutral tool, if both may be called."""
        handler = self._listed.get(tool)
        long_running = (
            handler.tool.long_running
            if handler is not None and isinstance(handler.tool, Tool)
            else None
        )
        return (
            long_running
            if long_running is not None and long_running.check in self._listed
            else None
        )

    async def find(self, context: Any, task_id: str) -> Task | None:
        """Return a job or a batch of the owner as a task."""
        engine = engine_for(context)
        live = await engine.job(task_id)
        if live is None:
            return None
        long_running = self._long_running(live.job.operation)
        if long_running is not None:
            check = {long_running.argument: task_id, "wait_seconds": 0}
            said = await self._listed[long_running.check].run(engine, check, Nobody())
            status = str((said.structured or {}).get("status"))
            return self._task(live.job, said, status, over=status != "running")
        if live.job.provider not in engine.providers:
            return None
        (await engine.runtime()).downloader.take_up(live)
        job, said = live.job, job_result(engine, live, engine.check_tool(live.job))
        task = self._task(job, said, job.shown_status, over=live.settled)
        if job.asks and (approval := job.approval) is not None:
            questions = requests(approval.question, approval.number)
            asked = {key: _wire(each) for key, each in questions.items()}
            return replace(task, status="input_required", input_requests=asked)
        if job.unapproved and job.error is not None:  # the result that the call would have returned
            text = TextContent(type="text", text=CallError(job.error).text)
            refusal = _wire(CallToolResult(content=[text], is_error=True))
            return replace(task, status="completed", result=refusal)
        return task

    def _task(self, job: Row, said: Result, status: str, *, over: bool) -> Task:
        poll_after = (said.structured or {}).get("poll_after_seconds")
        task = Task(
            task_id=job.job_id,
            status="working",
            created_at=iso(job.created_at),
            updated_at=iso(job.updated_at),
            message=said.text,
            poll_ms=poll_after * 1_000 if isinstance(poll_after, int) else None,
        )
        if not over:
            return task
        if status == "cancelled":
            return replace(task, status="cancelled", poll_ms=None)
        return replace(task, status="completed", poll_ms=None, result=_wire(self._shown(said)))

    async def changed(self, context: Any, task: Task) -> None:
        """Return when the job has a newer version, or when its files are there."""
        engine = engine_for(context)
        live = await engine.job(task.task_id)
        if live is None:
            return
        runtime = await engine.runtime()
        if self._long_running(live.job.operation) is not None:
            await runtime.tracker.change(task.task_id, LOOK_SECONDS)
            await anyio.sleep(PAUSE_SECONDS)
            return
        seen = _stamp(live)
        await runtime.context.registry.wait(
            live, LONGEST_WAIT_SECONDS, until=lambda live: _stamp(live) != seen
        )

    async def update(self, context: Any, task_id: str, responses: dict[str, Any]) -> None:
        """Process the answer to a job's question.

        Raises
        ------
        MCPError: it is not a valid answer, or could not be written; the question remains.
        """
        engine = engine_for(context)
        live = await engine.job(task_id)
        approval = live.job.approval if live is not None and live.job.asks else None
        if live is None or approval is None:
            return
        try:
            yes = answer(responses, approval.number)
        except ValueError:
            raise MCPError(INVALID_PARAMS, "inputResponses: not a result of elicitation") from None
        if yes is None:
            return
        try:
            await engine.answer(live, approval, yes=yes)
        except CallError as error:
            raise MCPError(INTERNAL_ERROR, error.failure.message) from None

    async def cancel(self, context: Any, task_id: str) -> None:
        """Cancel a job that waits here, or at the provider if the provider has a tool for it."""
        engine = engine_for(context)
        live = await engine.job(task_id)
        if live is None or live.job.operation not in self._listed:
            return
        (await engine.runtime()).context.spawn(self._cancel, engine, live)

    async def _cancel(self, engine: Engine, live: LiveJob) -> None:
        from darkroom.engine.cancellation import cancel  # noqa: PLC0415 -- needed with a job

        job = live.job
        begun = self._listed[job.operation].tool
        try:
            if isinstance(begun, Tool) and begun.long_running is not None:
                handler = self._listed.get(begun.long_running.cancel)
                if handler is not None:
                    arguments = {begun.long_running.argument: job.job_id}
                    await handler.run(engine, arguments, Nobody())
            elif isinstance(begun, JobOperation) and (
                job.status == "queued" or begun.cancel is None or begun.cancel in self._listed
            ):
                await cancel(await engine.runtime(), live)
        except CallError as error:
            log.info("%s was not cancelled: %s", job.job_id, error.failure.code)


def _stamp(live: LiveJob) -> tuple[int, bool]:
    return live.job.version, live.settled


def _wire(model: BaseModel) -> dict[str, Any]:
    """Return a protocol object in its JSON form."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)
