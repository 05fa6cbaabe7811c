"""Taking up what dead processes left: at the start, and when one is found dead.

Nothing is marked failed because we were away. What was ``prepared`` may be sent; what was ``sent``
has an unknown fate; what ran is asked for again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.errors import Stale
from darkroom.jobs.attempts import unknown
from darkroom.jobs.evidence import look_for_evidence
from darkroom.jobs.liveness import sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from darkroom.errors import JsonObject
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import Live
    from darkroom.works import Works

STOPPED = "the server stopped before an answer was recorded"


async def recover(works: Works) -> None:
    """Take over the jobs of dead processes; whoever asks meanwhile waits until it is done."""
    async with works.recovering:
        taken = await _recover(works)
    if any(job.operation not in works.core.operations for job in taken):  # a batch
        for go_on in works.go_on:
            await go_on()


async def recover_from(works: Works, holders: Iterable[str | None]) -> bool:
    """Take over the jobs of dead processes if one of these holders is dead; tell whether."""
    others = set(holders) - {None, works.core.registry.holder}
    if not any(works.dead(holder) for holder in others if holder is not None):
        return False
    await recover(works)
    return True


async def _recover(works: Works) -> Sequence[Job]:
    core = works.core
    store = core.registry.store
    taken = await store.claim(core.registry.holder, works.dead)
    for job in taken:
        if job.operation in core.operations:
            await _take_up(works, core.registry.add(job))
    now = core.clock()
    for attempt in await store.unsettled(works.dead):
        state = "unknown" if attempt.state == "sent" else "refused"
        evidence: JsonObject = {**(attempt.evidence or {}), "what_happened": STOPPED}
        closed = attempt.next(state=state, answered_at=now, evidence=evidence)
        try:
            await store.write(None, [closed])
        except Stale:  # another process takes up the same, and was here first
            continue
    if works.lease is not None:
        await works.run(lambda: sweep(core.settings.state_dir, {core.registry.holder}))
    return taken


async def _take_up(works: Works, live: Live) -> None:
    core, job, now = works.core, live.job, works.core.clock()
    operation = core.operations[job.operation]
    attempts = await core.registry.store.attempts(job.job_id)
    live.attempt = next((a for a in reversed(attempts) if a.item is None), None)
    live.items = {a.item: a for a in attempts if a.item is not None} or None
    fate = unknown(core.channels[job.provider].provider, STOPPED)
    lost = [
        attempt.next(state="unknown", answered_at=now, evidence=fate.evidence)
        for attempt in attempts
        if attempt.state == "sent"
    ]
    for attempt in lost:
        if attempt.item is not None and live.items is not None:
            live.items[attempt.item] = attempt
        else:
            live.attempt = attempt
    left = operation.longest_seconds - (now - (job.submitted_at or job.created_at))
    match job.status:
        case "queued" if job.asks:
            works.questions.follow(live)
        case "queued":
            works.submitter.enqueue(live)
        case "submitting":
            works.submitter.keep_slot(live, max(0.0, left))
            await core.record(
                live,
                lambda job: job.next(
                    status="unknown", updated_at=now, error=fate.failure, evidence=fate.evidence
                ),
                lost,
            )
            look_for_evidence(core, live)
        case "unknown":
            works.submitter.keep_slot(live, max(0.0, left))
        case _:
            if lost:
                await core.record(live, lambda _: None, lost)
            core.channels[job.provider].lane(job.fingerprint).occupy(job.job_id)
            if live.items:
                works.items.start(live)
            works.poller.follow(live)
