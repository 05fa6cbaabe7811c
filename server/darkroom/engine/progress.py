"""Waiting for a job while progress is reported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.engine.person import Person
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob, Registry

TELL_SECONDS = 5.0
"""Longest time between two progress reports."""

STEP = 0.001
"""Smallest increase between two progress reports; the protocol requires that progress grows."""


async def wait_telling(
    registry: Registry,
    live: LiveJob,
    seconds: float,
    person: Person,
    *,
    until: Callable[[LiveJob], bool],
) -> LiveJob:
    """Wait as `Registry.wait` does; report at the start, at each change and every few seconds.

    The progress is the number of seconds waited, because a job's duration is not known.
    """
    began = anyio.current_time()
    told = -STEP
    while not until(live):
        waited = anyio.current_time() - began
        if waited >= seconds - STEP:  # less would be below the resolution of the clock
            break
        told = max(waited, told + STEP)
        seen = _how_it_stands(live.job)
        await person.progress(told, None, seen)

        def changed(live: LiveJob, seen: str = seen) -> bool:
            return until(live) or _how_it_stands(live.job) != seen

        left = seconds - (anyio.current_time() - began)
        live = await registry.wait(live, min(left, TELL_SECONDS), until=changed)
    return live


def _how_it_stands(job: Job) -> str:
    parts = [f"{job.operation}: {job.shown_status}"]
    if job.status == "queued" and job.queued_for is not None:
        parts.append(f"waits for {job.queued_for}")
    if job.progress is not None:
        parts.append(f"{job.progress.done} of {job.progress.total}")
    return ", ".join(parts)
