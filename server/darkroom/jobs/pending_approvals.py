"""Jobs that wait for the person's approval: rows without an attempt.

Before the approval there is no attempt that could be sent, neither after a crash nor by another
process. The answer is one compare-and-set write, so that only the first answer counts.
`darkroom.engine.approvals` continues an approved job.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import JournalError, call_error
from darkroom.core.log import log
from darkroom.jobs.context import SAVE_AGAIN_SECONDS
from darkroom.jobs.model import Approval
from darkroom.providers.client.outcomes import BLOCKED

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.core.errors import Failure
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.values import Status

APPROVAL_SECONDS = 86_400.0
"""How long the person has to answer within a task; after that it counts as a no."""


class Questions:
    """Adds questions to jobs, and ends the jobs that are not approved."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        context.registry.watchers.append(self._forget)

    def approval(self, question: str) -> Approval:
        """Return what a job that is written nowhere yet asks first."""
        return Approval(question=question, until=self._context.clock() + APPROVAL_SECONDS)

    async def ask_anew(self, live: LiveJob, instead_of: Approval, question: str) -> None:
        """Ask again, because the price or the start time has changed since the person was asked.

        Raises
        ------
        JournalError: the old question remains.
        """
        now = self._context.clock()
        new = replace(
            instead_of,
            question=question,
            until=now + APPROVAL_SECONDS,
            number=instead_of.number + 1,
        )
        await self._change(live, instead_of, lambda job: job.next(approval=new, updated_at=now))

    def follow(self, live: LiveJob, *, at_least: float = 0.0) -> None:
        """Schedule the end of a job's question, at the earliest in ``at_least`` seconds."""
        left = (live.job.approval.until if live.job.approval else 0.0) - self._context.clock()
        self._context.schedule.at(
            _due(live.job),
            anyio.current_time() + max(left, at_least),
            lambda: self._context.spawn(self._lapse, live.job.owner, live.job.job_id),
        )

    def _forget(self, job: Job) -> None:
        if job.approval is not None and not job.asks:
            self._context.schedule.cancel(_due(job))

    async def _lapse(self, owner: str, job_id: str) -> None:
        live = await self._context.registry.get(owner, job_id)  # another process may have answered
        if live is None or not live.job.asks or (approval := live.job.approval) is None:
            return
        if not self.lapsed(approval):
            self.follow(live)
            return
        try:
            await self.refuse(live, approval, unanswered(live.job.operation))
        except JournalError as error:
            log.error("the journal cannot be written: %s", error)
            self.follow(live, at_least=SAVE_AGAIN_SECONDS)

    def lapsed(self, approval: Approval) -> bool:
        """Tell whether the time for an answer is over."""
        return approval.until <= self._context.clock()

    async def refuse(self, live: LiveJob, asked: Approval, error: Failure) -> None:
        """End a job that waits for approval; its ``idempotency_key`` can be used again.

        Raises
        ------
        JournalError: the question remains.
        """
        now = self._context.clock()
        status: Status = "blocked" if error.code in BLOCKED else "failed"
        if error.code == "declined":
            status = "cancelled"

        def end(job: Job) -> Job:
            return job.next(
                status=status,
                updated_at=now,
                ended_at=now,
                error=error,
                queued_for=None,
                idempotency_key=None,
            )

        await self._change(live, asked, end)

    async def _change(self, live: LiveJob, asked: Approval, change: Callable[[Job], Job]) -> None:
        """Change a job if it still asks this question; otherwise an earlier answer counts."""

        def changed(job: Job) -> Job | None:
            return change(job) if job.asks and job.approval == asked else None

        await self._context.registry.update(live, changed)


def unanswered(tool: str) -> Failure:
    """Return the failure for a question that was not answered in time."""
    return call_error(
        "declined",
        f"the person did not answer whether {tool} may go on; nothing was sent",
        "do not call it again unless the person asks for it",
    ).failure


def _due(job: Job) -> tuple[str, str]:
    return "approval", job.job_id
