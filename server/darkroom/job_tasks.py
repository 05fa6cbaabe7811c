"""The jobs of this server as tasks: a task's id is the job's, its result is what check says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from darkroom.approval import cannot_ask
from darkroom.core import log
from darkroom.desk import job_result
from darkroom.errors import CallError
from darkroom.jobs.model import iso
from darkroom.operation import Call, Job
from darkroom.tasks_extension import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mcp_types import CallToolResult

    from darkroom.desk import Desk
    from darkroom.jobs.registry import Live
    from darkroom.machine import Machine
    from darkroom.operation import Result

LONGEST_WAIT_SECONDS = 3_600.0


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
        if desk is None or not isinstance(desk.tool, Job):
            return None
        fields = cast("dict[str, object]", result.structured_content or {})
        task = await self.find(context, str(fields.get("job_id")))
        return task if task is not None and task.status == "working" else None

    async def find(self, context: Any, task_id: str) -> Task | None:
        """Return a job of the owner as a task."""
        machine = _machine(context)
        live = await machine.job(task_id)
        if live is None:
            return None
        (await machine.works()).collector.take_up(live)
        job = live.job
        said = job_result(machine, live, machine.check_tool(job))
        poll_after = machine.poll_after(live)
        task = Task(
            task_id=job.job_id,
            status="working",
            created_at=iso(job.created_at),
            updated_at=iso(job.updated_at),
            message=said.text,
            poll_ms=poll_after * 1_000 if poll_after is not None else None,
        )
        if not live.settled:
            return task
        if job.status == "cancelled":
            return _as(task, status="cancelled")
        result = self._shown(said).model_dump(by_alias=True, mode="json", exclude_none=True)
        return _as(task, status="completed", result=result)

    async def changed(self, context: Any, task: Task) -> None:
        """Return when the job has a newer version, or its files are there."""
        machine = _machine(context)
        live = await machine.job(task.task_id)
        if live is None:
            return
        seen = _stamp(live)
        registry = (await machine.works()).core.registry
        await registry.wait(live, LONGEST_WAIT_SECONDS, until=lambda live: _stamp(live) != seen)

    async def update(self, context: Any, task_id: str, responses: dict[str, Any]) -> None:
        """Ignore the answers: a job asks before it begins (the call itself), never afterwards."""
        del context, task_id, responses

    async def cancel(self, context: Any, task_id: str) -> None:
        """Cancel a job by its provider's tool for that, if there is one and it may be called."""
        machine = _machine(context)
        live = await machine.job(task_id)
        if live is None:
            return
        provider = machine.providers[live.job.provider]
        for operation in provider.operations:
            if isinstance(operation, Call) and operation.withdraws and operation.asks is None:
                desk = self._listed.get(operation.name)
                if desk is not None:
                    (await machine.works()).core.spawn(_cancel, machine, desk, live.job.job_id)


async def _cancel(machine: Machine, desk: Desk, job_id: str) -> None:
    try:
        await desk.run(machine, {"job_id": job_id}, _Nobody())
    except CallError as error:
        log.info("%s was not cancelled: %s", job_id, error.failure.code)


def _machine(context: Any) -> Machine:
    return cast("Machine", context.lifespan_context)


def _stamp(live: Live) -> tuple[int, bool]:
    return live.job.version, live.settled


def _as(task: Task, **changes: Any) -> Task:
    return replace(task, **changes, poll_ms=None)


class _Nobody:
    """Who is behind a task once its call has been answered."""

    async def approve(self, tool: str, question: str, binding: str) -> None:
        del binding
        raise cannot_ask(tool, question)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        del done, total, message
