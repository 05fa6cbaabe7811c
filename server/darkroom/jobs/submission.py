"""Sending what starts a job: written down before it leaves, sent once, its answer written down.

Everything here runs in the machine's own tasks. A caller that gives up, a host that dies, changes
nothing about a request that is on its way.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import CallError, DarkroomError, JournalError, failure
from darkroom.jobs import suspension
from darkroom.jobs.account_queue import AccountQueue
from darkroom.jobs.evidence import look_for_evidence
from darkroom.jobs.inputs import gone, not_understood
from darkroom.jobs.quota import outlook
from darkroom.providers.client.account import ACCOUNT_WIDE
from darkroom.providers.client.http import LostError
from darkroom.providers.client.outcomes import (
    BLOCKED,
    Accepted,
    Later,
    NeverLeft,
    Refused,
    Unknown,
    judge,
)
from darkroom.providers.client.resend import NEVER_LEFT, with_newer_key
from darkroom.providers.messages import UNREADABLE, Request
from darkroom.providers.operations import FanOutOperation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from darkroom.core.errors import Failure
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.fan_out import ItemSender
    from darkroom.jobs.inputs import Inputs
    from darkroom.jobs.model import Attempt, Job, QueuedFor
    from darkroom.jobs.poller import Poller
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.client.outcomes import Outcome
    from darkroom.providers.client.provider_client import ProviderClient
    from darkroom.providers.client.rate_limiter import Permit, RateLimiter
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.params import References

LOOK_FOR_DEAD_SECONDS = 15.0
"""How often it is looked, while a job waits for a slot, whether a dead process has one."""


class _WithdrawnError(DarkroomError):
    """The job was cancelled before its request left."""


class Submitter:
    """Moves jobs from ``queued`` to what the provider made of them."""

    def __init__(
        self, context: JobContext, poller: Poller, items: ItemSender, inputs: Inputs
    ) -> None:
        self._context = context
        self._inputs = inputs
        self._poller = poller
        self._items = items
        self._tries: dict[str, int] = {}
        self._daily = anyio.Lock()
        self._accounts = AccountQueue(context, self.enqueue, self._refuse_waiting)
        self.take_over: Callable[[], Awaitable[None]] | None = None
        """Takes over the jobs of dead processes, where there can be others."""

    # --- waiting for a turn ---

    def enqueue(self, live: LiveJob) -> None:
        """Send the request that starts a job as soon as its inputs and the limits allow."""
        if self._inputs.of(live.job):
            self._context.spawn(self._enqueue_with_inputs, live)
        else:
            self._ask(live)

    async def _enqueue_with_inputs(self, live: LiveJob) -> None:
        state, job_id = await self._inputs.state(live.job)
        if state == "ready":
            self._ask(live)
        elif state == "waiting":
            self._show(live, "input", None)
            self._inputs.when_ended(job_id, lambda: self.enqueue(live))
        else:
            await self._without_input(live, gone(job_id))

    async def _without_input(self, live: LiveJob, error: Failure) -> None:
        """End a job whose input will never come: its request never left."""
        now = self._context.clock()
        attempts = [a for a in (live.attempt, *(live.items or {}).values()) if a is not None]
        closed = [attempt.next(state="refused", answered_at=now) for attempt in attempts]

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
        """See to it that a dead process's jobs, and their slots, are nobody's for long."""
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
        """Enqueue a job again after a time; without a reason, whoever waits goes on waiting."""
        if reason is not None:
            self._show(live, reason, self._context.clock() + seconds)
        self._context.schedule.at(
            ("start", live.job.job_id),
            anyio.current_time() + seconds,
            lambda: self.enqueue(live),
        )

    @staticmethod
    def _show(live: LiveJob, reason: QueuedFor, starts_at: float | None) -> None:
        """Say why a job waits. Known in memory only: for the journal it is ``queued``."""
        live.job = dataclasses.replace(live.job, queued_for=reason, starts_at=starts_at)
        live.wake()

    # --- the request ---

    async def _submit(self, live: LiveJob, permit: Permit) -> None:
        with self._context.under_way():
            if self._context.closing:
                self._leave(live, permit)
            else:
                await self._submit_now(live, permit)

    def _leave(self, live: LiveJob, permit: Permit) -> None:
        """Let a job stay queued, for whoever starts next."""
        permit.give_back()
        self._free(live.job)
        self._show(live, "pacing", None)

    async def _submit_now(self, live: LiveJob, permit: Permit) -> None:
        operation = self._context.operations[live.job.operation]
        client = self._context.clients[live.job.provider]
        outcome: Outcome | None = None
        try:
            if isinstance(operation, FanOutOperation) and live.job.provider_job_id is not None:
                permit.give_back()
                await self._accept(live, None, live.job.provider_job_id)
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
        except (CallError, JournalError) as error:
            outcome = Refused(error.failure)
        except _WithdrawnError:
            permit.give_back()
            self._tries.pop(live.job.job_id, None)
            if live.job.ended:  # otherwise it was sent all the same, and needs its slot
                self._free(live.job)
            return
        finally:
            permit.done()
        if outcome is not None:
            await self._settle(live, operation, client, outcome)

    async def _send(
        self,
        live: LiveJob,
        operation: JobOperation,
        client: ProviderClient,
        permit: Permit,
        inputs: References | None,
    ) -> Outcome | None:
        """Send the request, once; None where the job waits for the provider's next day."""
        try:
            key = self._context.credentials.key(
                client.provider, operation.credential, owner=live.job.owner
            )
            account = client.account(key.fingerprint)
            if account.giving_up:
                permit.give_back()
                return Refused(failure("rate_limited", client.provider.title))
            if (pause := account.pause()) > 0:
                permit.give_back()
                self._free(live.job)
                self._again(live, "pacing", pause)
                return None
            waited_for = self._accounts.is_waited_for(live)
            if account.wait(eager=waited_for) > 0 and account.refusal is not None:
                permit.give_back()
                if waited_for:
                    return Refused(
                        dataclasses.replace(account.refusal, retry_after_seconds=account.left)
                    )
                self._free(live.job)
                self._accounts.wait(live, key.fingerprint)
                return None
            if inputs is None:
                inputs = await self._inputs.addresses(live.job)
            request = self._context.request(live.job, operation, inputs)
            async with self._daily:
                ahead = await outlook(
                    self._context, client.provider, operation, live.job.owner, behind=False
                )
                if (refusal := ahead.refusal) is not None:
                    permit.give_back()
                    return Refused(refusal.failure)
                if ahead.waits:
                    permit.give_back()
                    self._free(live.job)
                    self._again(live, "allowance", ahead.tomorrow - self._context.clock())
                    return None
                danger = await suspension.refusal(self._context, client.provider, live.job)
                if danger is not None:
                    permit.give_back()
                    self._free(live.job)
                    self._again(live, "account", suspension.AGAIN_SECONDS)
                    live.job = dataclasses.replace(live.job, error=danger)
                    return None
                await self._mark_sent(live)
        except (CallError, JournalError) as error:
            permit.give_back()
            return Refused(error.failure)
        except UNREADABLE:
            permit.give_back()
            return Refused(not_understood())
        response = await client.change(request, key)
        provider_id: str | None = None
        if not isinstance(response, DarkroomError):
            try:
                provider_id = operation.accepted(response)
            except UNREADABLE:
                response = LostError("bad_response: the answer could not be understood")
        outcome = judge(
            client.provider,
            response,
            provider_id=provider_id,
            needs_id=True,
            also_accepts=operation.also_accepts,
        )
        return with_newer_key(self._context.credentials, key, outcome)

    async def _mark_sent(self, live: LiveJob) -> None:
        """Make it durable that the request is about to leave."""
        now = self._context.clock()
        if live.attempt is None or live.job.status != "queued":
            raise _WithdrawnError
        attempt = live.attempt.next(state="sent", sent_at=now)

        def change(job: Job) -> Job:
            if job.status != "queued":
                raise _WithdrawnError
            return job.next(
                status="submitting",
                updated_at=now,
                submitted_at=now,
                holder=self._context.registry.holder,
                queued_for=None,
                starts_at=None,
                error=None,
            )

        await self._context.registry.update(live, change, [attempt])
        live.attempt = attempt

    # --- what became of it ---

    async def _settle(
        self, live: LiveJob, operation: JobOperation, client: ProviderClient, outcome: Outcome
    ) -> None:
        match outcome:
            case Accepted(provider_id):
                await self._accept(live, "accepted", provider_id)
            case Refused(error) if error.code in ACCOUNT_WIDE and not self._accounts.is_waited_for(
                live
            ):
                await self._wait_for_account(live, operation, client, error)
            case Refused(error):
                await self._refuse(live, client, error)
            case Later():
                await self._try_later(live, operation, client, outcome)
            case NeverLeft(error):
                await self._try_again(live, client, error)
            case Unknown(error, evidence):
                now = self._context.clock()
                self._tries.pop(live.job.job_id, None)
                self.keep_slot(live, operation.longest_seconds)
                await self._context.record(
                    live,
                    lambda job: job.next(
                        status="unknown", updated_at=now, error=error, evidence=evidence
                    ),
                    self.answered(live, "unknown", evidence=evidence),
                )
                look_for_evidence(self._context, live)

    def answered(self, live: LiveJob, state: str, **changes: object) -> Sequence[Attempt]:
        """Return the attempt that starts the job as its answer, or the person, settled it."""
        if live.attempt is None:
            return ()
        live.attempt = live.attempt.next(state=state, answered_at=self._context.clock(), **changes)
        return (live.attempt,)

    async def _accept(self, live: LiveJob, state: str | None, provider_id: str | None) -> None:
        """Follow a job that the provider has; without a ``state`` nothing had to be sent for it."""
        now = self._context.clock()
        attempts = self.answered(live, state, provider_id=provider_id) if state else ()

        def change(job: Job) -> Job:
            if state is None and job.status != "queued":
                raise _WithdrawnError
            return job.next(
                status="running",
                updated_at=now,
                holder=self._context.registry.holder,
                submitted_at=job.submitted_at or now,
                provider_job_id=provider_id,
                error=None,
                evidence=None,
                queued_for=None,
                starts_at=None,
            )

        await self._context.record(live, change, attempts)
        self._tries.pop(live.job.job_id, None)
        self._accounts.forget(live)
        if live.items:
            self._items.start(live)
        self._poller.follow(live)

    async def _refuse(self, live: LiveJob, client: ProviderClient, error: Failure) -> None:
        now = self._context.clock()
        status = "blocked" if error.code in BLOCKED else "failed"
        items = [
            attempt.next(state="refused", answered_at=now)
            for attempt in (live.items or {}).values()
        ]
        await self._context.record(
            live,
            lambda job: job.next(
                status=status,
                updated_at=now,
                ended_at=now,
                error=error,
                queued_for=None,
                starts_at=None,
            ),
            [*self.answered(live, "refused", evidence={"code": error.code}), *items],
        )
        self._tries.pop(live.job.job_id, None)
        self._accounts.forget(live)
        client.limiter(live.job.fingerprint).release(live.job.job_id)

    async def _refuse_waiting(self, live: LiveJob, error: Failure) -> None:
        await self._refuse(live, self._context.clients[live.job.provider], error)

    async def _wait_for_account(
        self, live: LiveJob, operation: JobOperation, client: ProviderClient, error: Failure
    ) -> None:
        """Put a job back whose account is refused: that says nothing of the job itself."""
        try:
            key = self._context.credentials.key(
                client.provider, operation.credential, owner=live.job.owner
            )
        except CallError:
            await self._refuse(live, client, error)
            return
        await self._back_to_queue(live, "refused")
        client.limiter(live.job.fingerprint).release(live.job.job_id)
        self._accounts.wait(live, key.fingerprint)

    async def _try_later(
        self,
        live: LiveJob,
        operation: JobOperation,
        client: ProviderClient,
        later: Later,
    ) -> None:
        """Put a job back that the provider will take later; end it if the allowance is used up."""
        if later.seconds is None and await self._exhausted(live.job, operation, client):
            title = client.provider.title
            said = failure(
                "quota_exhausted", title, provider_message=later.failure.provider_message
            )
            await self._refuse(live, client, said)
            return
        wait = 0.0
        if not later.key_replaced:
            account = client.account(live.job.fingerprint)
            wait = account.put_off(later.seconds)
            if account.giving_up:
                await self._refuse(live, client, later.failure)
                return
        limiter = client.limiter(live.job.fingerprint)
        limiter.hold("start", wait)
        await self._back_to_queue(live, "refused")
        limiter.release(live.job.job_id)
        self._again(live, "pacing", wait)

    async def _exhausted(self, job: Job, operation: JobOperation, client: ProviderClient) -> bool:
        """Ask the provider whether a 429 means that the allowance is used up."""
        allowance = client.provider.allowance
        if allowance is None:
            return False
        try:
            key = self._context.credentials.key(
                client.provider, operation.credential, owner=job.owner
            )
            response = await client.read(Request(method="GET", path=allowance.path), key)
            return response.ok and allowance.exhausted(response, operation.name)
        except (CallError, *UNREADABLE):
            return False

    async def _try_again(self, live: LiveJob, client: ProviderClient, error: Failure) -> None:
        """Send a request again that certainly never arrived; give up after a few tries."""
        tries = self._tries[live.job.job_id] = self._tries.get(live.job.job_id, 0) + 1
        if NEVER_LEFT.over(tries):
            await self._refuse(live, client, error)
            return
        await self._back_to_queue(live, "refused")
        client.limiter(live.job.fingerprint).release(live.job.job_id)
        self._again(live, None, NEVER_LEFT.wait(tries))

    async def _back_to_queue(self, live: LiveJob, state: str) -> None:
        """Close the attempt and prepare the next one, in one write."""
        now = self._context.clock()
        closed = self.answered(live, state)
        if live.attempt is None:
            return
        live.attempt = dataclasses.replace(
            live.attempt,
            attempt_id=self._context.new_id(),
            state="prepared",
            created_at=now,
            sent_at=None,
            answered_at=None,
            evidence=None,
            version=1,
        )
        await self._context.record(
            live,
            lambda job: job.next(status="queued", updated_at=now, submitted_at=None),
            [*closed, live.attempt],
        )

    def free_slot(self, live: LiveJob) -> None:
        """Give a job's slot back before its time."""
        job = live.job
        self._context.schedule.cancel(("slot", job.job_id))
        self._free(job)

    def _free(self, job: Job) -> None:
        self._context.clients[job.provider].limiter(job.fingerprint).release(job.job_id)

    def keep_slot(self, live: LiveJob, seconds: float) -> None:
        """Count a job of unknown fate as running, for so long."""
        job = live.job
        limiter = self._context.clients[job.provider].limiter(job.fingerprint)
        limiter.occupy(job.job_id)
        self._context.schedule.at(
            ("slot", job.job_id),
            anyio.current_time() + seconds,
            lambda: limiter.release(job.job_id),
        )
