"""What the state that a provider tells makes of a job: pure functions from row to row."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from darkroom.jobs.states import merged
from darkroom.providers.values import ENDED

if TYPE_CHECKING:
    from darkroom.jobs.model import Job
    from darkroom.providers.messages import State
    from darkroom.providers.values import Cost


def going_on(job: Job, state: State, *, at: float, polls: int, holder: str) -> Job | None:
    """Return a job that runs; None if it has ended by the provider's own word."""
    if job.ended and not job.concluded:
        return None
    again: dict[str, object] = {}
    if job.ended:  # it goes on, whatever we had concluded
        again = {"ended_at": None, "error": None, "concluded": False, "holder": holder}
    return job.next(
        **again,
        status=state.status,
        updated_at=at,
        polls=polls,
        provider_status=state.provider_status or job.provider_status,
        progress=state.progress or job.progress,
        details=merged(job, state.details),
        outputs=state.outputs or job.outputs,
        queued_for=None,
        starts_at=None,
    )


def ending(job: Job, state: State, *, at: float, polls: int) -> Job | None:
    """Return a job that is over or of unknown fate; None if it has ended by the provider's word."""
    if job.ended and not job.concluded:
        return None
    kept = {o.index: o for o in job.outputs if o.file is not None} if job.ended else {}
    return job.next(
        status=state.status,
        updated_at=at,
        ended_at=at if state.status in ENDED else None,
        polls=polls,
        provider_status=state.provider_status or job.provider_status,
        progress=state.progress or job.progress,
        details=merged(job, state.details),
        outputs=tuple(kept.get(each.index, each) for each in state.outputs),
        cost=state.cost or _cost(job, state),
        concluded=state.concluded,
        error=state.failure,
        evidence=None if job.status == "unknown" else job.evidence,
        warnings=state.warnings if job.ended else (*job.warnings, *state.warnings),
        queued_for=None,
        starts_at=None,
    )


def _cost(job: Job, state: State) -> Cost | None:
    """Return the cost of a job whose end names none: whether a failure is charged is not known."""
    if job.cost is None or state.status not in {"failed", "blocked"} or job.cost.basis == "exact":
        return job.cost
    return replace(job.cost, basis="unknown")


def is_news(job: Job, state: State) -> bool:
    """Tell whether what was found out about a job that had ended is more than was known.

    The provider's own word is, where the end was only concluded; another conclusion is if it comes
    with more results.
    """
    if not job.concluded:
        return False
    return not state.concluded or len(state.outputs) > len(job.outputs)
