"""Settling a job whose fate is unknown: by the person's word, with what evidence there is.

Only an exact correlate lets a job be adopted by itself (`darkroom.jobs.gather`). Anything weaker
is shown, and the person decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from darkroom.errors import call_error, failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import Live
    from darkroom.works import Works

Verdict = Literal["submitted", "not_submitted"]


async def settle(works: Works, live: Live, verdict: Verdict, provider_job_id: str | None) -> Live:
    """Settle an unknown job.

    ``submitted``: the provider has it, under ``provider_job_id``; it is followed from now on.
    ``not_submitted``: it never arrived; it ends ``failed``, and what it reserved is released.

    Raises
    ------
    CallError: ``conflict`` if it is not unknown, or the id belongs to another job here;
        ``invalid_argument`` if the id is missing.
    """
    core = works.core
    _still_unknown(live.job)
    if verdict == "not_submitted":
        await core.detached(lambda: _never_arrived(works, live))
        return live
    if not provider_job_id:
        raise call_error(
            "invalid_argument",
            "provider_job_id: missing; a submitted job needs the id that the provider gave it",
            "take it from the provider's own page or list, then call again",
        )
    known = await core.registry.store.find(live.job.owner, live.job.provider, provider_job_id)
    if known is not None and known.job_id != live.job.job_id:
        raise call_error(
            "conflict",
            f"{provider_job_id} is already {known.job_id}",
            "look for another one, or settle this one as not_submitted",
        )
    await core.detached(lambda: _was_submitted(works, live, provider_job_id))
    return live


def _still_unknown(job: Job) -> None:
    if job.status != "unknown":
        raise call_error(
            "conflict",
            f"{job.job_id} is {job.status}; only an unknown job can be settled",
            "check it instead",
        )


async def _write(
    works: Works, live: Live, change: Callable[[Job], Job], state: str, **more: object
) -> None:
    """Write a verdict down with the attempt that it settles; none of it holds if that fails."""
    before = live.attempt
    try:
        attempts = works.submitter.answered(live, state, **more)
        await works.core.registry.update(live, change, attempts)
    except BaseException:
        live.attempt = before
        raise


async def _never_arrived(works: Works, live: Live) -> None:
    core, now = works.core, works.core.clock()
    await live.load(core.registry.store)
    title = core.channels[live.job.provider].provider.title
    error = failure("outcome_unknown", title, next_step="start it again if it is still wanted")

    def change(job: Job) -> Job:
        _still_unknown(job)
        return job.next(status="failed", updated_at=now, ended_at=now, error=error)

    await _write(works, live, change, "refused")
    works.submitter.free_slot(live)


async def _was_submitted(works: Works, live: Live, provider_job_id: str) -> None:
    core, now = works.core, works.core.clock()
    await live.load(core.registry.store)

    def change(job: Job) -> Job:
        _still_unknown(job)
        return job.next(
            status="running",
            updated_at=now,
            holder=core.registry.holder,
            provider_job_id=provider_job_id,
            error=None,
            evidence=None,
        )

    await _write(works, live, change, "accepted", provider_id=provider_job_id)
    core.registry.add(live.job)
    if live.items:
        works.items.start(live)
    works.poller.follow(live)
