"""The progress of a batch: its jobs, waiting for the next relevant change, the remaining time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import call_error
from darkroom.engine.batches.plan import Load, seconds_for
from darkroom.engine.progress import STEP, TELL_SECONDS
from darkroom.jobs.store import UNDER_WAY, Query

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from darkroom.engine.person import Person
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job
    from darkroom.providers.provider import Provider

PROVIDER = "batch"
OPERATION = "start_batch"
MOST_JOBS = 5_000

LOOK_SECONDS = 0.5
"""How often a wait checks for changes by other processes."""

PAUSE_SECONDS = 0.2
"""Changes within this time are processed together."""

STEPS = 10
"""A wait returns when another tenth of the batch is done, or earlier if a job fails."""


@dataclass(frozen=True, slots=True)
class Report:
    """A batch and its jobs, as they are now."""

    batch: Job
    jobs: list[Job]

    @property
    def counts(self) -> Counter[str]:
        """How many jobs there are of each status, as the model sees it."""
        return Counter(job.shown_status for job in self.jobs)

    @property
    def done(self) -> int:
        """How many jobs have ended or are unknown."""
        return sum(job.status not in UNDER_WAY for job in self.jobs)

    @property
    def status(self) -> str:
        """``running``, ``cancelled``, or ``completed`` if all jobs are done."""
        if self.done < len(self.jobs):
            return "running"
        return "cancelled" if self.batch.status == "cancelled" else "completed"

    @property
    def mark(self) -> tuple[str, int, int]:
        """What a wait compares: the status, the tenths that are done, the failures."""
        counts = self.counts
        failed = counts["failed"] + counts["blocked"] + counts["unknown"]
        return self.status, self.done * STEPS // max(1, len(self.jobs)), failed


class Reports:
    """Reads the batches of an owner."""

    def __init__(self, runtime: Runtime, owner: str, providers: Mapping[str, Provider]) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._owner = owner
        self._providers = providers

    async def of(self, batch_id: str) -> Report:
        """Return a batch with its jobs, oldest first.

        Raises
        ------
        CallError: ``not_found``.
        """
        registry = self._context.registry
        live = await registry.get(self._owner, batch_id)
        if live is None or live.job.operation != OPERATION:
            raise call_error(
                "not_found",
                f"there is no batch {batch_id}",
                "list_jobs shows the batches known here",
            )
        rows = await registry.store.list(
            Query(owner=self._owner, batch_id=batch_id, limit=MOST_JOBS)
        )
        return Report(live.job, [registry.latest(job) for job in reversed(rows)])

    @staticmethod
    def holders(report: Report) -> set[str | None]:
        """Return the holders of a batch and of its jobs that have not ended."""
        return {job.holder for job in (report.batch, *report.jobs) if not job.ended}

    async def wait(self, batch_id: str, seconds: float, person: Person) -> Report:
        """Return at the next relevant change, or when the time is over."""
        report = await self.of(batch_id)
        mark, told, told_at = report.mark, -STEP, -TELL_SECONDS
        with anyio.move_on_after(seconds):
            while report.status == "running" and report.mark == mark:
                now = anyio.current_time()
                if report.done > told or now - told_at >= TELL_SECONDS:
                    told, told_at = max(report.done, told + STEP), now
                    total = len(report.jobs)
                    await person.progress(told, total, f"{report.done} of {total} done")
                await self._runtime.tracker.change(batch_id, LOOK_SECONDS)
                await anyio.sleep(PAUSE_SECONDS)
                if self._context.stopping:
                    break
                report = await self.of(batch_id)
        return report

    def seconds_left(self, report: Report) -> float:
        """Return the estimated remaining time at the providers' limits."""
        left: list[Load] = []
        for job in report.jobs:
            operation = self._context.operations.get(job.operation)
            if job.status in UNDER_WAY and operation is not None:
                left.append(Load(self._providers[job.provider], operation, self._sends(job)))
        return seconds_for(self._runtime, left) if left else 0.0

    def _sends(self, job: Job) -> int:
        """Return how many requests of a job are still to be sent, as far as this process knows."""
        live = self._context.registry.known(job.job_id)
        items = (live.items or {}) if live is not None else {}
        unsent = sum(attempt.state == "prepared" for attempt in items.values())
        return unsent + (job.status == "queued")

    def folder(self, batch: Job) -> Path:
        """Return the folder of a batch's files."""
        return self._runtime.folder / (batch.folder or "")
