"""The concurrency slots of jobs: how many jobs a provider runs at the same time is limited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job


def release(context: JobContext, job: Job) -> None:
    """Give a job's slot back."""
    context.clients[job.provider].limiter(job.fingerprint).release(job.job_id)


def release_early(context: JobContext, job: Job) -> None:
    """Give back the slot of an unknown job that has been settled."""
    context.schedule.cancel(("slot", job.job_id))
    release(context, job)


def keep(context: JobContext, job: Job, seconds: float) -> None:
    """Keep the slot of an unknown job for the given time, because the job may be running."""
    context.clients[job.provider].limiter(job.fingerprint).occupy(job.job_id)
    context.schedule.at(
        ("slot", job.job_id), anyio.current_time() + seconds, lambda: release(context, job)
    )
