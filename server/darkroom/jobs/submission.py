"""Sends the request that starts a job, at most once.

All of it runs in tasks of the engine: a caller that gives up does not affect the request.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import CallError, DarkroomError, JournalError
from darkroom.jobs import slots
from darkroom.jobs.context import TROUBLE_SECONDS, NoKeyError
from darkroom.jobs.inputs import gone, not_understood
from darkroom.jobs.quota import DAY_SECONDS, SPARED_SECONDS, outlook, read_counters
from darkroom.jobs.spending import CapReached, beginning, booked_at, day
from darkroom.jobs.start_outcomes import StartOutcomes, WithdrawnError
from darkroom.jobs.store import NoShareError
from darkroom.providers.client.outcomes import Accepted, Refused, judge
from darkroom.providers.client.resend import with_newer_key
from darkroom.providers.messages import UNREADABLE, Acceptance
from darkroom.providers.operations import FanOutOperation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from darkroom.core.errors import Failure
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.fan_out import ItemSender
    from darkroom.jobs.inputs import Inputs
    from darkroom.jobs.model import Job, QueuedFor
    from darkroom.jobs.poller import Poller
    from darkroom.jobs.registry import LiveJob
    from darkroom.jobs.store import Share
    from darkroom.providers.client.outcomes import Outcome
    from darkroom.providers.client.provider_client import ProviderClient
    from darkroom.providers.client.rate_limiter import Permit, RateLimiter
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.params import References

LOOK_FOR_DEAD_SECONDS = 15.0
"""How often dead processes are looked for while a job waits for a slot."""


class Submitter:
    """Sends queued jobs, and records whether the provider accepted them."""

    def __init__(
        self, context: JobContext, poller: Poller, items: ItemSender, inputs: Inputs
    ) -> None:
        self._context = context
        self._inputs = inputs
        self._outcomes = StartOutcomes(context, poller, items, self._again)
        self._daily = anyio.Lock()
        self.take_over: Callable[[], Awaitable[None]] | None = None
        """Takes over the jobs of dead processes; None if no other process can share the store."""

    # --- waiting for a permit ---

    def enqueue(self, live: LiveJob) -> None:
        """Send the request that starts a job as soon as its inputs and the limits allow."""
        if self._inputs.named(live.job):
            self._context.spawn(self._enqueue_with_inputs, live)
        else:
            self._ask(live)

    async def _enqueue_with_inputs(self, live: LiveJob) -> None:
        try:
            state, job_id = await self._inputs.state(live.job)
        except JournalError as error:
            self._put_aside(live, "pacing", error)
            return
        if state == "ready":
            await self._with_files(live)
        elif state == "waiting":
            self._show(live, "input", None)
            self._inputs.when_ended(live.job.owner, job_id, lambda: self.enqueue(live))
        else:
            await self._without_input(live, gone(job_id))

    async def _with_files(self, live: LiveJob) -> None:
        """Ask for a permit once the local files of a job are where the provider finds them."""
        try:
            await self._inputs.fetch(live)
        except JournalError as error:
            self._put_aside(live, "pacing", error)
            return
        except CallError as error:
            operation = self._context.operations[live.job.operation]
            client = self._context.clients[live.job.provider]
            with self._context.under_way():
                if live.job.status == "queued":
                    await self._outcomes.settle(live, operation, client, Refused(error.failure))
            return
        if live.job.status == "queued":
            self._ask(live)

    async def _without_input(self, live: LiveJob, error: Failure) -> None:
        """End a job whose input will never exist; its request was not sent."""
        now = self._context.clock()
        closed = [each.next(state="refused", answered_at=now) for each in live.attempts()]

        def change(job: Job) -> Job | None:
            if job.status != "queued":
                return None
            return job.next(
                status="cancelled", updated_at=now, ended_at=now, error=error, queued_for=None
            )

        await self._context.record(live, change, closed)

    def _ask(self, live: LiveJob) -> None:
        job = live.job
        limiter = self._context.clients[job.provider].limiter(job.fingerprint)
        granted: list[bool] = []

        def go(permit: Permit) -> None:
            granted.append(True)
            self._context.spawn(self._submit, live, permit)

        kind = job.batch_id or "start"
        limiter.ask(kind, go, slot=job.job_id)
        if granted:
            return
        if not limiter.slot_free(job.job_id):
            self._show(live, "slot", None)
            self._look_for_dead(limiter)
        else:
            self._show(live, "pacing", self._context.clock() + limiter.estimate(kind))

    def _look_for_dead(self, limiter: RateLimiter) -> None:
        """Take over the jobs of dead processes regularly, so that their slots become free."""
        take_over = self.take_over
        if take_over is None or self._context.schedule.due("dead") is not None:
            return

        async def look() -> None:
            try:
                await take_over()
            finally:
                if limiter.waiting:
                    self._look_for_dead(limiter)

        due = anyio.current_time() + LOOK_FOR_DEAD_SECONDS
        self._context.schedule.at("dead", due, lambda: self._context.spawn(look))

    def _again(self, live: LiveJob, reason: QueuedFor | None, seconds: float) -> None:
        """Enqueue a job again after a time; without a reason its shown state does not change."""
        if reason is not None:
            self._show(live, reason, self._context.clock() + seconds)
        self._context.schedule.at(
            ("start", live.job.job_id),
            anyio.current_time() + seconds,
            lambda: self.enqueue(live),
        )

    def _put_aside(self, live: LiveJob, reason: QueuedFor, error: DarkroomError) -> None:
        """Keep a job queued that this server cannot send now, and try again until it can.

        What is wrong here says nothing about the job: it must not end for it.
        """
        live.trouble = str(error)
        slots.release(self._context, live.job)
        self._again(live, reason, TROUBLE_SECONDS)

    @staticmethod
    def _show(live: LiveJob, reason: QueuedFor, starts_at: float | None) -> None:
        """Show why a job waits. This is kept only in memory; in the journal it is ``queued``."""
        live.job = dataclasses.replace(live.job, queued_for=reason, starts_at=starts_at)
        live.wake()

    # --- the request ---

    async def _submit(self, live: LiveJob, permit: Permit) -> None:
        with self._context.under_way():
            if self._context.closing:
                self._leave(live, permit)
            elif live.job.status != "queued":  # cancelled while it waited for its permit
                self._withdrawn(live, permit)
            else:
                await self._submit_now(live, permit)

    def _leave(self, live: LiveJob, permit: Permit) -> None:
        """Leave a job queued for the next process."""
        permit.give_back()
        slots.release(self._context, live.job)
        self._show(live, "pacing", None)

    def _withdrawn(self, live: LiveJob, permit: Permit) -> None:
        permit.give_back()
        self._outcomes.forget(live.job)
        if live.job.ended or live.job.status == "queued":  # otherwise it was sent, and needs it
            slots.release(self._context, live.job)

    async def _submit_now(self, live: LiveJob, permit: Permit) -> None:
        operation = self._context.operations[live.job.operation]
        client = self._context.clients[live.job.provider]
        outcome: Outcome | None = None
        try:
            if isinstance(operation, FanOutOperation) and live.job.provider_job_id is not None:
                permit.give_back()
                await self._outcomes.accept(live, None, live.job.provider_job_id)
                return
            inputs: References | None = None
            if await self._inputs.dying(live.job):  # asking for new addresses takes turns, too
                permit.give_back()
                inputs = await self._inputs.addresses(live.job)
                permit = await client.limiter(live.job.fingerprint).permit(
                    live.job.batch_id or "start"
                )
                if self._context.closing:
                    self._leave(live, permit)
                    return
            outcome = await self._send(live, operation, client, permit, inputs)
        except JournalError as error:  # nothing was sent, and nothing is
            permit.give_back()
            self._put_aside(live, "pacing", error)
            return
        except NoKeyError as error:
            permit.give_back()
            self._put_aside(live, "account", error)
            return
        except CallError as error:
            outcome = Refused(error.failure)
        except WithdrawnError:
            self._withdrawn(live, permit)
            return
        finally:
            permit.done()
        if outcome is not None:
            await self._outcomes.settle(live, operation, client, outcome)

    async def _send(
        self,
        live: LiveJob,
        operation: JobOperation,
        client: ProviderClient,
        permit: Permit,
        inputs: References | None,
    ) -> Outcome | None:
        """Send the request once; return None if the job has to wait for the provider's next day."""
        key = self._context.key(live.job, operation)
        try:
            if (held := self._outcomes.accounts.gate(live, key.fingerprint)) is not None:
                permit.give_back()
                return held if isinstance(held, Refused) else None
            if inputs is None:
                inputs = await self._inputs.addresses(live.job)
            request = self._context.request(live.job, operation, inputs)
            async with self._daily:
                await read_counters(self._context, client.provider, operation, key)
                while True:
                    ahead = await outlook(
                        self._context,
                        client.provider,
                        operation,
                        live.job.owner,
                        key.fingerprint,
                        behind=False,
                    )
                    if (refusal := ahead.refusal) is not None:
                        permit.give_back()
                        return Refused(refusal.failure)
                    if ahead.waits:
                        permit.give_back()
                        slots.release(self._context, live.job)
                        self._again(live, "allowance", ahead.tomorrow - self._context.clock())
                        return None
                    if ahead.danger is not None:
                        permit.give_back()
                        slots.release(self._context, live.job)
                        self._again(live, "account", SPARED_SECONDS)
                        live.job = dataclasses.replace(live.job, error=ahead.danger)
                        return None
                    try:
                        await self._mark_sent(live, ahead.shares)
                        break
                    except NoShareError:  # another server was faster: look at what is left
                        continue
        except CapReached as reached:  # of the day on which it is sent
            permit.give_back()
            slots.release(self._context, live.job)
            live.trouble = reached.failure.message
            now = self._context.clock()
            self._again(live, "allowance", beginning("day", now) + DAY_SECONDS - now)
            return None
        except JournalError:
            raise
        except CallError as error:
            permit.give_back()
            return Refused(error.failure)
        except UNREADABLE:
            permit.give_back()
            return Refused(not_understood())
        live.trouble = None
        response = await client.change(request, key)
        acceptance: Acceptance | None = None
        if not isinstance(response, DarkroomError):
            try:
                accepted = operation.accepted(response)
            except UNREADABLE:
                acceptance = None
            else:
                acceptance = Acceptance(id=accepted) if isinstance(accepted, str) else accepted
        outcome = judge(
            client.provider,
            response,
            provider_id=acceptance.id if acceptance is not None else None,
            needs_id=True,
            also_accepts=operation.also_accepts,
        )
        if isinstance(outcome, Accepted) and acceptance is not None:
            outcome = dataclasses.replace(outcome, acceptance=acceptance)
        return with_newer_key(self._context.credentials, key, outcome)

    async def _mark_sent(self, live: LiveJob, shares: Sequence[Share]) -> None:
        """Make it durable that the request is about to leave."""
        now = self._context.clock()
        if live.attempt is None or live.job.status != "queued":
            raise WithdrawnError
        attempt = live.attempt.next(state="sent", sent_at=now)

        def change(job: Job) -> Job:
            if job.status != "queued" or job.cancel_wanted:
                raise WithdrawnError
            return job.next(
                status="submitting",
                updated_at=now,
                submitted_at=now,
                holder=self._context.registry.holder,
                queued_for=None,
                starts_at=None,
                error=None,
            )

        job, caps = live.job, ()
        if job.cost is not None and day(booked_at(job)) != day(now):  # it was reserved before today
            caps = self._context.tariff.caps(job.provider, job.cost.unit, now)
        # From here on it counts as sent: after a crash it is unknown and is not sent again.
        await self._context.registry.update(live, change, [attempt], caps=caps, shares=shares)
        live.attempt = attempt
