"""Cancels a batch, and runs its failed jobs again."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from darkroom.core.deadlines import CANCEL_SECONDS
from darkroom.core.errors import CallError, DarkroomError
from darkroom.engine import cancellation
from darkroom.engine.batches.growth import went_on
from darkroom.engine.batches.plan import quotas_said
from darkroom.jobs.store import UNDER_WAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from darkroom.engine.batches.growth import Followed, Growth
    from darkroom.engine.batches.report import Report, Reports
    from darkroom.engine.batches.start import Opener
    from darkroom.engine.calls import Caller
    from darkroom.engine.person import Person
    from darkroom.engine.runtime import Runtime
    from darkroom.engine.starts import Starter
    from darkroom.jobs.model import AttemptState, Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.values import Cost, Unit

RETRY = "retry_batch"

PAID: frozenset[AttemptState] = frozenset({"sent", "accepted", "unknown"})
"""States of an item that the provider has, or may have."""

MOST_ROUNDS = 5
"""How often it is looked again what waits; nothing grows any more once the wish is written."""


class _FasterError(DarkroomError):
    """The job has been run again meanwhile."""


class Canceller:
    """Cancels the jobs of a batch that can be cancelled; the others go on."""

    def __init__(self, runtime: Runtime, reports: Reports) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._reports = reports

    async def cancel(self, report: Report, caller: Caller) -> None:
        """Cancel what has not started, and what the provider lets us cancel.

        The wish is written down first: from then on no second stage grows.
        """
        await self._mark(report)
        for _ in range(MOST_ROUNDS):
            queued = [job for job in report.jobs if job.status == "queued"]
            if not queued:
                break
            for job in reversed(queued):  # what depends on others goes before they do
                await self._queued(job, caller)
            report = await self._reports.of(report.batch.job_id)  # what has grown meanwhile
        wished = [live for job in report.jobs if (live := await self._wish(job)) is not None]
        with anyio.move_on_after(CANCEL_SECONDS):
            for live in wished:
                await self._context.registry.wait(
                    live,
                    CANCEL_SECONDS,
                    until=lambda live: live.job.ended or not live.job.cancel_wanted,
                )

    async def _mark(self, report: Report) -> None:
        live = await self._context.registry.get(report.batch.owner, report.batch.job_id)
        if live is None or report.status != "running":
            return
        now = self._context.clock()
        await self._context.registry.update(
            live,
            lambda job: (
                job.next(status="cancelled", updated_at=now, ended_at=now)
                if job.status == "running"
                else None
            ),
        )

    async def _queued(self, job: Job, caller: Caller) -> None:
        live = await self._context.registry.get(job.owner, job.job_id)
        if live is None:
            return
        try:
            await caller.withdraw(live)
        except CallError as error:
            if error.failure.code != "conflict":
                raise  # otherwise it has just left

    async def _wish(self, job: Job) -> LiveJob | None:
        """Begin to cancel a job that the provider has or is about to get, if that is possible."""
        if job.ended or job.operation not in self._context.operations:
            return None
        live = await self._context.registry.get(job.owner, job.job_id)
        if live is None or not cancellation.possible(self._runtime, live):
            return None
        await cancellation.wish(self._runtime, live)
        return live


class Retrier:
    """Runs jobs of a batch again; the caps apply again."""

    def __init__(self, runtime: Runtime, starter: Starter, opener: Opener, growth: Growth) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._starter = starter
        self._opener = opener
        self._growth = growth

    async def retry(self, report: Report, person: Person) -> int:
        """Run the failed jobs again that may succeed now, and the jobs that waited for them.

        A second stage that stopped goes on for the outputs that it has no job for. Returns how many. An ``unknown`` job is never run again.

        Raises
        ------
        CallError: ``spend_cap_reached``, or the person said no; nothing was started.
        """
        failed = [
            job
            for job in report.jobs
            if job.status == "failed" and job.error is not None and job.error.retryable
            if not job.concluded
        ]
        missed = self._missed(report, {job.job_id for job in failed})
        again = [
            job
            for job in (*failed, *missed)
            if job.operation in self._context.operations and not await self._partly_sent(job)
        ]
        outputs = self._growth.missing(report)
        by_item = {job.item: job for job in report.jobs}
        followers = [by_item[f"{job.item}>0"] for job, _ in outputs]
        if not again and not outputs:
            return 0
        costs: Counter[tuple[str, Unit]] = Counter()
        for job in (*again, *followers):
            cost = self._cost(job, self._context.operations[job.operation])
            if cost is not None:
                costs[job.provider, cost.unit] += cost.amount  # pyright: ignore[reportArgumentType] -- amounts may be fractions
        await self._opener.admit(report.batch, costs)
        said, _ = await quotas_said(self._runtime, [*again, *followers])
        what = _what(len(again), len(outputs))
        asked = await self._opener.ask(RETRY, what, costs, said, report.batch, person)
        return await self._context.detached(
            lambda: self._restart_all(report.batch, again, outputs, asked=asked)
        )

    async def _partly_sent(self, job: Job) -> bool:
        """Tell whether items of a job were accepted, or may have been: they are paid for."""
        attempts = await self._context.registry.store.attempts(job.owner, job.job_id)
        return any(each.item is not None and each.state in PAID for each in attempts)

    def _missed(self, report: Report, again: set[str]) -> Sequence[Job]:
        """Return the jobs that were not sent because they need an output of a job that runs again."""
        found: dict[str, Job] = {}
        waiting = [
            job
            for job in report.jobs
            if job.status == "cancelled" and job.error is not None
            if job.error.code == "input_failed"
        ]
        while True:
            more = [
                job
                for job in waiting
                if job.job_id not in found
                and any(
                    r.job_id in again or r.job_id in found for r in self._runtime.inputs.of(job)
                )
            ]
            if not more:
                return list(found.values())
            found |= {job.job_id: job for job in more}

    def _cost(self, job: Job, operation: JobOperation) -> Cost | None:
        params = self._context.params(job, operation)
        client = self._context.clients[job.provider]
        key = self._context.credentials.key(client.provider, operation.credential, owner=job.owner)
        return key.charged(operation.cost(params, client.settings))

    async def _restart_all(
        self, batch: Job, again: Sequence[Job], outputs: Sequence[Followed], *, asked: bool
    ) -> int:
        retried = 0
        for job in again:
            operation = self._context.operations[job.operation]
            retried += await self._restart(job, operation, asked=asked)
        retried += await self._go_on(batch, outputs, asked=asked)
        parent = await self._context.registry.get(batch.owner, batch.job_id)
        if retried and parent is not None and parent.job.status not in UNDER_WAY:
            now = self._context.clock()
            await self._context.registry.update(
                parent, lambda job: job.next(status="running", updated_at=now, ended_at=None)
            )
        return retried

    async def _go_on(self, batch: Job, outputs: Sequence[Followed], *, asked: bool) -> int:
        """Start the second stage for outputs that it stopped at; return for how many."""
        parent = await self._context.registry.get(batch.owner, batch.job_id)
        if not outputs or parent is None:
            return 0
        await self._context.registry.update(
            parent, lambda job: job.next(warnings=went_on(job), updated_at=self._context.clock())
        )
        return len(outputs) if await self._growth.start(batch, outputs, asked=asked) else 0

    async def _restart(self, old: Job, operation: JobOperation, *, asked: bool) -> bool:
        context, now = self._context, self._context.clock()
        live = await context.registry.get(old.owner, old.job_id)
        if live is None:
            return False
        attempts = self._starter.attempts_again(old, operation)

        anew = replace(old, cost=self._cost(old, operation), asked=asked)
        caps = [
            *context.tariff.caps_for(anew, now),
            *context.tariff.unasked_caps_for(anew, RETRY, now),
        ]

        def change(job: Job) -> Job | None:
            if job.version != old.version:
                raise _FasterError
            return job.next(
                status="queued",
                updated_at=now,
                submitted_at=None,
                ended_at=None,
                provider_job_id=None,
                provider_status=None,
                holder=context.registry.holder,
                outputs=(),
                error=None,
                evidence=None,
                warnings=(),
                cancel_wanted=False,
                runs=job.runs + 1,
                run_at=now,
                cost=anew.cost,
                asked=anew.asked,
            )

        try:
            job = await context.registry.update(live, change, attempts, caps=caps)
        except _FasterError:
            return False
        live = context.registry.add(job)
        live.failed_polls, live.not_found, live.missed_at, live.trouble = 0, 0, None, None
        self._runtime.queue(live, attempts)
        return True


def _what(again: int, outputs: int) -> str:
    """Return what a retry does, as the question begins."""
    parts = [f"Run {again} jobs again"] if again else []
    if outputs:
        parts.append(f"start {outputs} jobs of the second stage that were not approved yet")
    what = " and ".join(parts)
    return what[0].upper() + what[1:]
