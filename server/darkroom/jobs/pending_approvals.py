"""Jobs that wait for the person's yes: rows without an attempt.

As long as nobody said yes there is nothing that could be sent: not after a crash, not by another
process. The answer is one compare-and-set write; the first one counts. Going on after a yes is
`darkroom.engine.approvals`.
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
"""How long the person has to answer a task; afterwards it is a no."""


class Questions:
    """Asks, and ends what is not to begin."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        context.registry.watchers.append(self._forget)

    def ask(self, job: Job, question: str) -> Job:
        """Return a job that is written nowhere yet as one that asks first."""
        approval = Approval(question=question, until=self._context.clock() + APPROVAL_SECONDS)
        return replace(job, queued_for="approval", approval=approval)

    async def ask_anew(self, live: LiveJob, instead_of: Approval, question: str) -> None:
        """Ask something else: what the person said yes to is not what it has become meanwhile.

        Raises
        ------
        JournalError: it asks as before.
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
        """See to it that a job does not ask for ever. ``at_least``: not before so many seconds."""
        left = (live.job.approval.until if live.job.approval else 0.0) - self._context.clock()
        self._context.schedule.at(
            _due(live.job),
            anyio.current_time() + max(left, at_least),
            lambda: self._context.spawn(self._lapse, live.job.job_id),
        )

    def _forget(self, job: Job) -> None:
        if job.approval is not None and not job.asks:
            self._context.schedule.cancel(_due(job))

    async def _lapse(self, job_id: str) -> None:
        live = await self._context.registry.get(job_id)  # another process may have answered
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
        """Tell whether it is too late for an answer."""
        return approval.until <= self._context.clock()

    async def refuse(self, live: LiveJob, asked: Approval, error: Failure) -> None:
        """End a job that asks: it never began, and its key is free again.

        Raises
        ------
        JournalError: it asks still.
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
        """Change a job that still asks this; otherwise somebody was faster, and that counts."""

        def changed(job: Job) -> Job | None:
            return change(job) if job.asks and job.approval == asked else None

        await self._context.registry.update(live, changed)


def unanswered(tool: str) -> Failure:
    """Say that the person did not answer in time."""
    return call_error(
        "declined",
        f"the person did not answer whether {tool} may go on; nothing was sent",
        "do not call it again unless the person asks for it",
    ).failure


def _due(job: Job) -> tuple[str, str]:
    return "approval", job.job_id
