"""The places of jobs among those that a provider runs at once."""

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
    """Give the slot back of a job of unknown fate that has been settled."""
    context.schedule.cancel(("slot", job.job_id))
    release(context, job)


def keep(context: JobContext, job: Job, seconds: float) -> None:
    """Count a job of unknown fate as running, for so long."""
    context.clients[job.provider].limiter(job.fingerprint).occupy(job.job_id)
    context.schedule.at(
        ("slot", job.job_id), anyio.current_time() + seconds, lambda: release(context, job)
    )
