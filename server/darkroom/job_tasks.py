"""The jobs of this server as tasks: a task's id is the job's, its result is what check says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, CallToolResult, TextContent

from darkroom.approval import Nobody, answer, requests
from darkroom.catalogue import Tool
from darkroom.core import log
from darkroom.desk import job_result
from darkroom.errors import CallError, JournalError
from darkroom.jobs.model import iso
from darkroom.operation import Job
from darkroom.tasks_extension import ENDED, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

    from darkroom.catalogue import Result
    from darkroom.desk import Desk
    from darkroom.following import Followed
    from darkroom.jobs.model import Job as Row
    from darkroom.jobs.registry import Live
    from darkroom.machine import Machine

LONGEST_WAIT_SECONDS = 3_600.0
LOOK_SECONDS = 30.0
"""How often a batch is looked at whose jobs may be another process's."""

PAUSE_SECONDS = 1.0
"""Jobs of a batch that change within this time are told of together."""


class JobTasks:
    """A `TaskSource` over the registry. ``listed``: the tools that may be called here."""

    def __init__(
        self, listed: Mapping[str, Desk], shown: Callable[[Result], CallToolResult]
    ) -> None:
        self._listed = listed
        self._shown = shown

    def required(self, tool: str) -> bool:
        """Tell that no tool needs tasks: each has its check."""
        del tool
        return False

    async def begun(self, context: Any, tool: str, result: CallToolResult) -> Task | None:
        """Return the task of a start that has not ended at once."""
        desk = self._listed.get(tool)
        followed = self._followed(tool)
        if followed is None and (desk is None or not isinstance(desk.tool, Job)):
            return None
        fields = cast("dict[str, object]", result.structured_content or {})
        key = followed.argument if followed is not None else "job_id"
        task = await self.find(context, str(fields.get(key)))
        return task if task is not None and task.status not in ENDED else None

    def _followed(self, tool: str) -> Followed | None:
        """Return what follows a neutral tool, if all of it may be called here."""
        desk = self._listed.get(tool)
        followed = desk.tool.followed if desk is not None and isinstance(desk.tool, Tool) else None
        return followed if followed is not None and followed.check in self._listed else None

    async def find(self, context: Any, task_id: str) -> Task | None:
        """Return a job or a batch of the owner as a task."""
        machine = _machine(context)
        live = await machine.job(task_id)
        if live is None:
            return None
        followed = self._followed(live.job.operation)
        if followed is not None:
            check = {followed.argument: task_id, "wait_seconds": 0}
            said = await self._listed[followed.check].run(machine, check, Nobody())
            status = str((said.structured or {}).get("status"))
            return self._task(live.job, said, status, over=status != "running")
        if live.job.provider not in machine.providers:
            return None
        (await machine.works()).collector.take_up(live)
        job, said = live.job, job_result(machine, live, machine.check_tool(live.job))
        task = self._task(job, said, job.status, over=live.settled)
        if job.asks and (approval := job.approval) is not None:
            questions = requests(approval.question, approval.number)
            asked = {key: _wire(each) for key, each in questions.items()}
            return replace(task, status="input_required", input_requests=asked)
        if job.unapproved and job.error is not None:  # what the call would have said
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
        """Return when the job has a newer version, or its files are there."""
        machine = _machine(context)
        live = await machine.job(task.task_id)
        if live is None:
            return
        works = await machine.works()
        if self._followed(live.job.operation) is not None:
            await works.tracker.change(task.task_id, LOOK_SECONDS)
            await anyio.sleep(PAUSE_SECONDS)
            return
        seen = _stamp(live)
        await works.core.registry.wait(
            live, LONGEST_WAIT_SECONDS, until=lambda live: _stamp(live) != seen
        )

    async def update(self, context: Any, task_id: str, responses: dict[str, Any]) -> None:
        """Take the answer to a job that asks.

        Raises
        ------
        MCPError: it is no answer, or could not be written down; the job asks still.
        """
        machine = _machine(context)
        live = await machine.job(task_id)
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
            await machine.answer(live, approval, yes=yes)
        except (CallError, JournalError) as error:
            raise MCPError(INTERNAL_ERROR, error.failure.message) from None

    async def cancel(self, context: Any, task_id: str) -> None:
        """Cancel what still waits here, and at the provider what it has a tool for."""
        machine = _machine(context)
        live = await machine.job(task_id)
        if live is None or live.job.operation not in self._listed:
            return
        (await machine.works()).core.spawn(self._cancel, machine, live)

    async def _cancel(self, machine: Machine, live: Live) -> None:
        job = live.job
        begun = self._listed[job.operation].tool
        try:
            if isinstance(begun, Tool) and begun.followed is not None:
                arguments, name = {begun.followed.argument: job.job_id}, begun.followed.cancel
            elif not isinstance(begun, Job):
                return
            elif job.status == "queued":
                await (await machine.caller()).withdraw(live)
                return
            else:
                arguments, name = {"job_id": job.job_id}, begun.cancel
            desk = self._listed.get(name) if name is not None else None
            if desk is not None:
                await desk.run(machine, arguments, Nobody())
        except CallError as error:
            log.info("%s was not cancelled: %s", job.job_id, error.failure.code)


def _machine(context: Any) -> Machine:
    return cast("Machine", context.lifespan_context)


def _stamp(live: Live) -> tuple[int, bool]:
    return live.job.version, live.settled


def _wire(model: BaseModel) -> dict[str, Any]:
    """Return a part of the protocol as it is sent."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)
