"""Cancels a job: here while it waits, at the provider where that has a way to cancel.

The wish is written to the job before anything else is done. From then on nothing of the job is
sent, and this process, or the one that takes the job over, cancels it as soon as it can be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from darkroom.core.deadlines import CANCEL_SECONDS
from darkroom.core.errors import CallError, Code, JournalError, call_error
from darkroom.core.log import log
from darkroom.engine.calls import Caller
from darkroom.engine.person import Nobody
from darkroom.jobs.fan_out_state import withdrawable
from darkroom.providers.client.resend import Backoff
from darkroom.providers.operations import CallOperation

if TYPE_CHECKING:
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.provider import Provider

AGAIN = Backoff(first=2.0, longest=60.0)
"""A cancellation that did not get through is sent again: it cannot cost anything."""

NOT_THROUGH: frozenset[Code] = frozenset(
    {
        "outcome_unknown",
        "provider_error",
        "provider_unavailable",
        "rate_limited",
        "timeout",
        "journal_unavailable",
    }
)
"""Errors that say nothing about whether the provider would cancel the job."""

WAITS = "the cancellation is written down, and is carried out as soon as it can be"
DOUBTFUL = "it may have been cancelled: check it"


async def cancel(runtime: Runtime, live: LiveJob) -> tuple[str, ...]:
    """Cancel a job; return what the caller should know about it.

    Raises
    ------
    CallError: ``conflict`` if there is nothing to cancel, or no way to; the provider's refusal.
    """
    if live.job.status == "cancelled":
        return ()
    if live.job.status == "queued" and await _withdrawn(runtime, live):
        return ()
    await live.load_from(runtime.context.registry.store)
    _check(runtime, live)
    await wish(runtime, live)
    call = _call(runtime, live.job)
    await runtime.context.registry.wait(
        live,
        CANCEL_SECONDS,
        until=lambda live: (
            live.job.ended
            or not live.job.cancel_wanted
            or (call is None and not withdrawable(live))
            or runtime.context.stopping
        ),
    )
    if live.refusal is not None:
        raise CallError(live.refusal)
    if live.job.ended or (call is None and not withdrawable(live)):
        return ()
    return (WAITS if live.job.cancel_wanted else DOUBTFUL,)


async def wish(runtime: Runtime, live: LiveJob) -> None:
    """Write down that a job is to be cancelled, and begin to carry it out."""
    live.refusal = None
    await runtime.context.registry.update(live, _wished)
    runtime.context.spawn(_try, runtime, live)


def changed(runtime: Runtime, job: Job) -> None:
    """Go on with the cancellation of a job whose state has changed, whoever changed it."""
    live = runtime.context.registry.known(job.job_id)
    if live is not None and job.status in {"queued", "running"}:
        runtime.context.spawn(_try, runtime, live)


async def take_up(runtime: Runtime, live: LiveJob) -> bool:
    """Go on with the cancellation of a job of a dead process; tell whether it is one."""
    job, registry = live.job, runtime.context.registry
    wanted = job.cancel_wanted
    if not wanted and job.batch_id is not None and job.status in {"queued", "running"}:
        batch = await registry.store.job(job.owner, job.batch_id)
        wanted = batch is not None and batch.status == "cancelled"
        if wanted and (job.status == "queued" or possible(runtime, live)):
            await runtime.context.record(live, _wished, ())
    if wanted:
        runtime.context.spawn(_try, runtime, live)
    return wanted


async def _try(runtime: Runtime, live: LiveJob) -> None:
    """Cancel a job whose cancellation is written down, however long that takes; once at a time."""
    if live.cancelling:
        return
    live.cancelling = True
    try:
        await _carry_out(runtime, live)
    except CallError as error:  # the job goes on, as its state shows
        log.error("%s was not cancelled: %s", live.job.job_id, error.failure.message)
    finally:
        live.cancelling = False


async def _carry_out(runtime: Runtime, live: LiveJob) -> None:
    context = runtime.context
    tried, doubtful = 0, False
    while live.job.cancel_wanted and not context.closing:
        if live.job.sending:  # only what the provider has can be cancelled there
            await context.registry.wait(
                live, CANCEL_SECONDS, until=lambda live: not live.job.sending
            )
            continue
        if live.job.status == "queued":
            try:
                if await _withdrawn(runtime, live):
                    return
            except JournalError:  # it is not sent, whatever comes: `Submitter` looks at the wish
                tried += 1
                await anyio.sleep(AGAIN.wait(tried))
            continue
        call = _call(runtime, live.job)
        if live.job.status != "running" or call is None:
            return  # `ItemSender` sends no more of its items
        tried += 1
        try:
            await _at_provider(runtime, live, call)
        except CallError as error:
            if error.failure.code not in NOT_THROUGH:
                if not doubtful:  # otherwise an earlier try may have cancelled it
                    live.refusal = error.failure
                await context.record(live, _taken_back, ())
                return
            doubtful = True
            await anyio.sleep(max(AGAIN.wait(tried), error.failure.retry_after_seconds or 0.0))
        else:
            return


async def _at_provider(runtime: Runtime, live: LiveJob, call: CallOperation) -> None:
    provider = runtime.context.clients[live.job.provider].provider
    params = call.params(job_id=live.job.job_id)  # pyright: ignore[reportCallIssue] -- such calls take JobParams
    await _caller(runtime, live).call(provider, call, params, Nobody())


def _caller(runtime: Runtime, live: LiveJob) -> Caller:
    """Return the object that makes calls about this one job."""

    async def known(provider: Provider, job_id: str) -> LiveJob:
        del provider, job_id
        return live

    return Caller(runtime, live.job.owner, known)


async def _withdrawn(runtime: Runtime, live: LiveJob) -> bool:
    """Cancel a job that still waits here; tell whether it has not been sent meanwhile."""
    try:
        await runtime.context.detached(lambda: _caller(runtime, live).withdraw(live))
    except JournalError:
        raise
    except CallError as error:
        if error.failure.code != "conflict":
            raise
        return False
    return True


def _check(runtime: Runtime, live: LiveJob) -> None:
    """Refuse to cancel a job that cannot be, with the way out."""
    job = live.job
    if job.operation not in runtime.context.operations:
        raise call_error(
            "conflict", f"{job.job_id} is not a single job", "call cancel_batch for a batch"
        )
    title = runtime.context.clients[job.provider].provider.title
    if job.status == "unknown":
        raise call_error(
            "conflict",
            f"nobody knows whether {title} has {job.job_id}, so there is nothing to cancel yet",
            "settle it with resolve_job",
        )
    if job.ended:
        raise call_error(
            "conflict", f"{job.job_id} is {job.status}", "there is nothing left to cancel"
        )
    if not possible(runtime, live):
        raise call_error(
            "conflict",
            f"{title} has {job.job_id} already and has no way to cancel it: it goes on, and is "
            "paid for",
            f"call {runtime.context.operations[job.operation].check_tool} for its result",
        )


def possible(runtime: Runtime, live: LiveJob) -> bool:
    """Tell whether a job can be cancelled though it may have left: in whole or in part."""
    return _call(runtime, live.job) is not None or withdrawable(live)


def _call(runtime: Runtime, job: Job) -> CallOperation | None:
    """Return the provider's own call that cancels such a job, if it has one."""
    name = runtime.context.operations[job.operation].cancel
    provider = runtime.context.clients[job.provider].provider
    call = provider.operation(name) if name is not None else None
    return call if isinstance(call, CallOperation) else None


def _wished(job: Job) -> Job | None:
    return None if job.ended or job.cancel_wanted else job.next(cancel_wanted=True)


def _taken_back(job: Job) -> Job | None:
    return job.next(cancel_wanted=False) if job.cancel_wanted and not job.ended else None
