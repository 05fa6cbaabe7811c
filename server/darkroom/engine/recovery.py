"""Takes over the jobs of dead processes, at the start and when a process is found dead.

No job becomes ``failed`` because no server was running. A ``prepared`` attempt may be sent; a
``sent`` attempt becomes ``unknown``; a running job is polled again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import JournalError, Stale
from darkroom.core.log import log
from darkroom.engine import cancellation, lost_calls
from darkroom.jobs import slots
from darkroom.jobs.evidence import look_for_evidence
from darkroom.providers.client.outcomes import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from darkroom.core.json_types import JsonObject
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob

NEIGHBOURS_SECONDS = 30.0
"""How often a server looks whether one beside it has died."""

STOPPED = "the server stopped before an answer was recorded"


async def recover(runtime: Runtime) -> None:
    """Take over the jobs of dead processes; concurrent calls wait until it is done."""
    async with runtime.recovering:
        taken = await _recover(runtime)
    if any(job.operation not in runtime.context.operations for job in taken):  # a batch
        for go_on in runtime.go_on:
            await go_on()


async def recover_from(runtime: Runtime, holders: Iterable[str | None]) -> bool:
    """Take over the jobs of dead processes if one of these holders is dead; tell whether it is."""
    others = set(holders) - {None, runtime.context.registry.holder}
    if not any(runtime.liveness.dead(holder) for holder in others if holder is not None):
        return False
    await recover(runtime)
    return True


def watch_neighbours(runtime: Runtime) -> None:
    """Take over by itself, from now on, what other processes leave behind when they die."""
    context, registry = runtime.context, runtime.context.registry
    seen, holders = -1, set[str]()

    async def look() -> None:
        nonlocal seen, holders
        try:
            wrote = await registry.others_wrote()
            if wrote != seen:
                holders, seen = await registry.store.holders(), wrote
            if not context.closing and await recover_from(runtime, holders):
                seen = -1
        except JournalError as error:
            log.error("%s", error)
        finally:
            look_later()

    def look_later() -> None:
        due = anyio.current_time() + NEIGHBOURS_SECONDS
        context.schedule.at("neighbours", due, lambda: context.spawn(look))

    look_later()


async def _recover(runtime: Runtime) -> Sequence[Job]:
    context = runtime.context
    store = context.registry.store
    taken = await store.claim(context.registry.holder, runtime.liveness.dead)
    # Those that run keep their slots before one that waits, maybe longer than they, can take one.
    for job in sorted(taken, key=lambda job: job.status == "queued"):
        if job.operation in context.operations:
            await _take_up(runtime, context.registry.add(job))
    now = context.clock()
    for attempt in await store.unsettled(runtime.liveness.dead):
        if runtime.uploads.recover(attempt):
            continue
        state = "unknown" if attempt.state == "sent" else "refused"
        evidence: JsonObject = {**(attempt.evidence or {}), "what_happened": STOPPED}
        closed = attempt.next(state=state, answered_at=now, evidence=evidence)
        try:
            await store.write(None, [closed])
        except Stale:  # another process has taken it over first
            continue
    await lost_calls.tell(context)
    await runtime.liveness.beat()
    return taken


async def _take_up(runtime: Runtime, live: LiveJob) -> None:
    context, job, now = runtime.context, live.job, runtime.context.clock()
    operation = context.operations[job.operation]
    attempts = await context.registry.store.attempts(job.owner, job.job_id)
    live.load(attempts)
    fate = unknown(context.clients[job.provider].provider, STOPPED)
    lost = [
        attempt.next(state="unknown", answered_at=now, evidence=fate.evidence)
        for attempt in attempts
        if attempt.state == "sent"
    ]
    for attempt in lost:
        live.keep(attempt)
    left = operation.longest_seconds - (now - (job.submitted_at or job.created_at))
    match job.status:
        case "queued" if job.asks:
            runtime.questions.follow(live)
        case "queued" if await cancellation.take_up(runtime, live):
            pass
        case "queued":
            runtime.submitter.enqueue(live)
        case "submitting":
            slots.keep(context, job, max(0.0, left))
            await context.record(
                live,
                lambda job: job.next(
                    status="unknown", updated_at=now, error=fate.failure, evidence=fate.evidence
                ),
                lost,
            )
            look_for_evidence(context, live)
        case "unknown":
            slots.keep(context, job, max(0.0, left))
        case _:
            if lost:
                await context.record(live, lambda _: None, lost)
            context.clients[job.provider].limiter(job.fingerprint).occupy(job.job_id)
            if live.items:
                runtime.items.start(live)
            runtime.poller.follow(live)
            await cancellation.take_up(runtime, live)
