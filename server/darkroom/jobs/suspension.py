"""Keeping a key from being suspended: how many of the last attempts a provider rejected.

It is counted from our journal. What is not decided yet, and the attempt that is about to be made,
count as rejected; so whatever becomes of them, the rule is not met. Nor is it met later by good
attempts leaving the window before the bad ones: every shorter window is looked at, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.core.errors import Failure
from darkroom.providers.operations import JobOperation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job
    from darkroom.providers.provider import Provider, Suspension
    from darkroom.providers.values import Status

MARGIN_SECONDS = 60.0
"""A request arrives, and its outcome counts, so much later than we wrote it down."""

AGAIN_SECONDS = 5.0
"""How often a job that waits for the window looks again; its neighbours' outcomes help as well."""

GOOD: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
"""Decided, and not rejected by the provider's safety check."""


def endangers(outcomes: Sequence[Status], rule: Suspension) -> bool:
    """Tell whether one more attempt could meet the rule; ``outcomes`` are the last ones, newest first."""
    attempts = rejected = 1  # the new one, at its worst
    for status in (None, *outcomes):
        if status is not None:
            attempts += 1
            rejected += status not in GOOD
        if attempts >= rule.least and rejected > rule.share * attempts:
            return True
    return False


async def refusal(context: JobContext, provider: Provider, job: Job) -> Failure | None:
    """Return why a job is not sent now: it could get the key suspended; None: it cannot."""
    rule = provider.suspension
    if rule is None:
        return None
    operations = [each.name for each in provider.operations if isinstance(each, JobOperation)]
    since = context.clock() - rule.window_seconds - MARGIN_SECONDS
    outcomes = await context.registry.store.outcomes(job.owner, operations, since)
    if not endangers([status for _, status in outcomes], rule):
        return None
    rejected = sum(status == "blocked" for _, status in outcomes)
    return Failure(
        code="suspended",
        message=f"{provider.title} rejected {rejected} of the last {len(outcomes)} requests as "
        f"unsafe and would suspend the key for {rule.suspended_seconds / 3600:g} hours; the rest "
        "waits here",
        next_step="it goes on by itself as the window passes; tell the person, or cancel prompts "
        "that may be unsafe",
        retryable=True,
    )
