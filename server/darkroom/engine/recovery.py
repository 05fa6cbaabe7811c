"""Taking up what dead processes left: at the start, and when one is found dead.

Nothing is marked failed because we were away. What was ``prepared`` may be sent; what was ``sent``
has an unknown fate; what ran is asked for again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.core.errors import Stale
from darkroom.jobs.evidence import look_for_evidence
from darkroom.providers.client.outcomes import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from darkroom.core.json_types import JsonObject
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob

STOPPED = "the server stopped before an answer was recorded"


async def recover(runtime: Runtime) -> None:
    """Take over the jobs of dead processes; whoever asks meanwhile waits until it is done."""
    async with runtime.recovering:
        taken = await _recover(runtime)
    if any(job.operation not in runtime.context.operations for job in taken):  # a batch
        for go_on in runtime.go_on:
            await go_on()


async def recover_from(runtime: Runtime, holders: Iterable[str | None]) -> bool:
    """Take over the jobs of dead processes if one of these holders is dead; tell whether."""
    others = set(holders) - {None, runtime.context.registry.holder}
    if not any(runtime.liveness.dead(holder) for holder in others if holder is not None):
        return False
    await recover(runtime)
    return True


async def _recover(runtime: Runtime) -> Sequence[Job]:
    context = runtime.context
    store = context.registry.store
    taken = await store.claim(context.registry.holder, runtime.liveness.dead)
    for job in taken:
        if job.operation in context.operations:
            await _take_up(runtime, context.registry.add(job))
    now = context.clock()
    for attempt in await store.unsettled(runtime.liveness.dead):
        state = "unknown" if attempt.state == "sent" else "refused"
        evidence: JsonObject = {**(attempt.evidence or {}), "what_happened": STOPPED}
        closed = attempt.next(state=state, answered_at=now, evidence=evidence)
        try:
            await store.write(None, [closed])
        except Stale:  # another process takes up the same, and was here first
            continue
    await runtime.liveness.beat()
    return taken


async def _take_up(runtime: Runtime, live: LiveJob) -> None:
    context, job, now = runtime.context, live.job, runtime.context.clock()
    operation = context.operations[job.operation]
    attempts = await context.registry.store.attempts(job.job_id)
    live.attempt = next((a for a in reversed(attempts) if a.item is None), None)
    live.items = {a.item: a for a in attempts if a.item is not None} or None
    fate = unknown(context.clients[job.provider].provider, STOPPED)
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
            runtime.questions.follow(live)
        case "queued":
            runtime.submitter.enqueue(live)
        case "submitting":
            runtime.submitter.keep_slot(live, max(0.0, left))
            await context.record(
                live,
                lambda job: job.next(
                    status="unknown", updated_at=now, error=fate.failure, evidence=fate.evidence
                ),
                lost,
            )
            look_for_evidence(context, live)
        case "unknown":
            runtime.submitter.keep_slot(live, max(0.0, left))
        case _:
            if lost:
                await context.record(live, lambda _: None, lost)
            context.clients[job.provider].limiter(job.fingerprint).occupy(job.job_id)
            if live.items:
                runtime.items.start(live)
            runtime.poller.follow(live)
