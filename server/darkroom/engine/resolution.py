"""Settles an unknown job with the person's answer.

A job is settled automatically only by an exact match at the provider (see
`darkroom.jobs.fan_out_state`). Weaker evidence is shown, and the person decides. The person is asked
to confirm, because a wrong answer releases a reserved amount or leads to a second charge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from darkroom.core.digests import digest
from darkroom.core.errors import call_error, failure
from darkroom.core.foreign import is_name
from darkroom.core.times import iso
from darkroom.jobs import slots
from darkroom.jobs.spending import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.engine.person import Person
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import AttemptState, Job
    from darkroom.jobs.registry import LiveJob

Resolution = Literal["submitted", "not_submitted"]

TOOL = "resolve_job"


async def settle(
    runtime: Runtime,
    live: LiveJob,
    verdict: Resolution,
    provider_job_id: str | None,
    person: Person,
) -> LiveJob:
    """Settle an unknown job after the person has confirmed.

    ``submitted``: the provider accepted it as ``provider_job_id``; it is polled from now on.
    ``not_submitted``: it never arrived; it becomes ``failed``, and its reserved amount is released.

    Raises
    ------
    CallError: ``conflict`` if it is not unknown, or the id belongs to another job here;
        ``invalid_argument`` if the id is missing or not valid; ``declined``, or ``not_configured``
        if nobody can be asked.
    InputNeededError: the host has to ask and call again.
    """
    context = runtime.context
    _still_unknown(live.job)
    if verdict == "not_submitted":
        await _ask(runtime, live.job, verdict, "", person)
        await context.detached(lambda: _never_arrived(runtime, live))
        return live
    if not provider_job_id:
        raise call_error(
            "invalid_argument",
            "provider_job_id: missing; a submitted job needs the id that the provider gave it",
            "take it from the provider's own page or list, then call again",
        )
    if not is_name(provider_job_id):
        raise call_error(
            "invalid_argument",
            "provider_job_id: expected an id as the provider gives it, without blanks or quotes",
            "take it from the provider's own page or list, then call again",
        )
    if await context.registry.store.taken(live.job.owner, live.job.provider, provider_job_id):
        title = context.clients[live.job.provider].provider.title
        raise call_error(
            "not_found",
            f"{title} has no job {provider_job_id} that could be this one",
            "look for another one, or settle this one as not_submitted",
        )
    known = await context.registry.store.find(live.job.owner, live.job.provider, provider_job_id)
    double = known if known is not None and known.job_id != live.job.job_id else None
    if double is not None and await context.registry.store.attempts(double.owner, double.job_id):
        # we have sent that one
        raise call_error(
            "conflict",
            f"{provider_job_id} is already {double.job_id}",
            "look for another one, or settle this one as not_submitted",
        )
    await _ask(runtime, live.job, verdict, provider_job_id, person)
    if double is not None:
        await context.detached(lambda: _give_up_double(runtime, double, live.job))
    await context.detached(lambda: _was_submitted(runtime, live, provider_job_id))
    return live


async def _ask(
    runtime: Runtime, job: Job, verdict: Resolution, provider_job_id: str, person: Person
) -> None:
    if TOOL not in runtime.context.settings.approval.never_ask:
        question = _question(runtime, job, verdict, provider_job_id)
        await person.approve(TOOL, question, digest(job.job_id, verdict, provider_job_id))


def _question(runtime: Runtime, job: Job, verdict: Resolution, provider_job_id: str) -> str:
    """Return the question: what is settled, what it costs or frees, and when to say yes."""
    context = runtime.context
    title = context.clients[job.provider].provider.title
    cost = "a cost that is not known"
    if job.cost is not None:
        money = context.tariff.money(job.provider, job.cost)
        cost = counted(job.cost.amount, job.cost.unit)
        cost += f" (about {money:.2f})" if money is not None else ""
    began = f"{job.operation} of {iso(job.submitted_at or job.created_at)}, {cost}"
    if verdict == "submitted":
        return (
            f'Settle {job.job_id} ({began}) as submitted: is it "{provider_job_id}" at {title}? '
            "It is then followed as that job, and what it costs counts as spent."
        )
    return (
        f"Settle {job.job_id} ({began}) as not submitted: did {title} never get it? It then ends "
        f"as failed, and this frees what is reserved for it: {cost} in the caps, and its place "
        "among the jobs that run at once. The same call can be sent, and charged, again. Say yes "
        f"only if {title}'s own page shows no such job."
    )


def _still_unknown(job: Job) -> None:
    if job.status != "unknown":
        raise call_error(
            "conflict",
            f"{job.job_id} is {job.shown_status}; only an unknown job can be settled",
            "check it instead",
        )


async def _write(
    runtime: Runtime,
    live: LiveJob,
    change: Callable[[Job], Job],
    state: AttemptState,
    **more: object,
) -> None:
    """Write the decision and the settled attempt; if that fails, nothing is changed."""
    before = live.attempt
    try:
        attempts = live.answered(runtime.context.clock(), state, **more)
        await runtime.context.registry.update(live, change, attempts)
    except BaseException:
        live.attempt = before
        raise


async def _never_arrived(runtime: Runtime, live: LiveJob) -> None:
    context, now = runtime.context, runtime.context.clock()
    await live.load_from(context.registry.store)
    title = context.clients[live.job.provider].provider.title
    error = failure("outcome_unknown", title, next_step="start it again if it is still wanted")

    def change(job: Job) -> Job:
        _still_unknown(job)
        return job.next(status="failed", updated_at=now, ended_at=now, error=error)

    await _write(runtime, live, change, "refused")
    slots.release_early(context, live.job)


async def _give_up_double(runtime: Runtime, double: Job, of: Job) -> None:
    """Close the row under which a lost job was followed by the provider's id alone.

    It is the same payment: what is reserved for the lost one goes on counting, once.
    """
    context, now = runtime.context, runtime.context.clock()
    live = await context.registry.get(double.owner, double.job_id)
    if live is None:
        return
    await context.registry.update(
        live,
        lambda job: job.next(
            status="cancelled",
            updated_at=now,
            ended_at=now,
            provider_job_id=None,
            concluded=False,
            outputs=(),
            warnings=(*job.warnings, f"it is the same as {of.job_id}, which goes on"),
        ),
    )
    context.schedule.cancel(("poll", double.job_id))
    slots.release_early(context, live.job)


async def _was_submitted(runtime: Runtime, live: LiveJob, provider_job_id: str) -> None:
    context, now = runtime.context, runtime.context.clock()
    await live.load_from(context.registry.store)

    def change(job: Job) -> Job:
        _still_unknown(job)
        return job.next(
            status="running",
            updated_at=now,
            holder=context.registry.holder,
            provider_job_id=provider_job_id,
            error=None,
            evidence=None,
        )

    await _write(runtime, live, change, "accepted", provider_id=provider_job_id)
    context.registry.add(live.job)
    if live.items:
        runtime.items.start(live)
    runtime.poller.follow(live)
