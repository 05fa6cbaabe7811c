"""Processes the outcome of the request that starts a job: records it and takes the next step."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

import anyio

from darkroom.core.errors import CallError, DarkroomError, failure
from darkroom.jobs import slots
from darkroom.jobs.account_queue import AccountQueue
from darkroom.jobs.bounds import NOT_BELIEVED, believed_cost
from darkroom.jobs.evidence import look_for_evidence
from darkroom.jobs.states import merged
from darkroom.jobs.store import Query
from darkroom.providers.client.account import ACCOUNT_WIDE
from darkroom.providers.client.outcomes import (
    BLOCKED,
    Accepted,
    Later,
    NeverLeft,
    Refused,
    Unknown,
)
from darkroom.providers.client.resend import NEVER_LEFT
from darkroom.providers.messages import UNREADABLE, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.core.errors import Failure
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.fan_out import ItemSender
    from darkroom.jobs.model import Job, QueuedFor
    from darkroom.jobs.poller import Poller
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.client.outcomes import Outcome
    from darkroom.providers.client.provider_client import ProviderClient
    from darkroom.providers.messages import Acceptance
    from darkroom.providers.operations import JobOperation


DOUBLE_SECONDS = 1.0
"""How long after its acceptance it is looked whether another job has the same id."""


class WithdrawnError(DarkroomError):
    """The job was cancelled before its request was sent."""


class StartOutcomes:
    """Settles the attempts that start jobs.

    ``enqueue_later(job, reason, seconds)`` queues a job again after a time.
    """

    def __init__(
        self,
        context: JobContext,
        poller: Poller,
        items: ItemSender,
        enqueue_later: Callable[[LiveJob, QueuedFor | None, float], None],
    ) -> None:
        self._context = context
        self._poller = poller
        self._items = items
        self._enqueue_later = enqueue_later
        self.accounts = AccountQueue(context, enqueue_later, self._refuse)
        self._tries: dict[str, int] = {}
        """The number of requests of each job that did not arrive or were refused for now."""

    def forget(self, job: Job) -> None:
        """Reset a job's number of tries, because it is not tried again."""
        self._tries.pop(job.job_id, None)
        self.accounts.forget(job)

    async def settle(
        self, live: LiveJob, operation: JobOperation, client: ProviderClient, outcome: Outcome
    ) -> None:
        """Record the outcome of a request, and take the next step."""
        match outcome:
            case Accepted(provider_job_id, _, acceptance):
                await self.accept(live, "accepted", provider_job_id, acceptance)
            case Refused(error) if error.code in ACCOUNT_WIDE and not self.accounts.is_waited_for(
                live
            ):
                await self._back_to_queue(live)
                self.accounts.wait_for_current_key(live)
            case Refused(error):
                await self._refuse(live, error)
            case Later():
                await self._try_later(live, operation, client, outcome)
            case NeverLeft(error):
                await self._try_again(live, error)
            case Unknown(error, evidence):
                now = self._context.clock()
                self.forget(live.job)
                slots.keep(self._context, live.job, operation.longest_seconds)
                await self._context.record(
                    live,
                    lambda job: job.next(
                        status="unknown", updated_at=now, error=error, evidence=evidence
                    ),
                    live.answered(now, "unknown", evidence=evidence),
                )
                look_for_evidence(self._context, live)

    async def accept(
        self,
        live: LiveJob,
        state: Literal["accepted"] | None,
        provider_job_id: str | None,
        acceptance: Acceptance | None = None,
    ) -> None:
        """Follow a job that the provider accepted; without a ``state`` no request was necessary."""
        now = self._context.clock()
        client = self._context.clients[live.job.provider]
        addresses, refused = client.own(acceptance.addresses if acceptance is not None else {})
        said = acceptance.cost if acceptance is not None else None
        cost = believed_cost(said)
        doubted = (NOT_BELIEVED,) if said is not None and cost is None else ()
        details = acceptance.details if acceptance is not None else None
        attempts = live.answered(now, state, provider_id=provider_job_id) if state else ()

        def change(job: Job) -> Job:
            if state is None and job.status != "queued":
                raise WithdrawnError
            return job.next(
                status="running",
                updated_at=now,
                holder=self._context.registry.holder,
                submitted_at=job.submitted_at or now,
                provider_job_id=provider_job_id,
                addresses=addresses or None,
                cost=cost or job.cost,
                details=merged(job, details),
                warnings=(*job.warnings, *refused, *doubted),
                error=None,
                evidence=None,
                queued_for=None,
                starts_at=None,
            )

        await self._context.record(live, change, attempts)
        self.forget(live.job)
        if state is not None:
            self._context.schedule.at(
                ("double", live.job.job_id),
                anyio.current_time() + DOUBLE_SECONDS,
                lambda: self._context.spawn(self._look_for_double, live),
            )
        if live.items:
            self._items.start(live)
        self._poller.follow(live)

    async def _look_for_double(self, live: LiveJob) -> None:
        """Warn if the provider gave a job the id of another job: it may be the same one there."""
        job = live.job
        same = Query(
            owner=job.owner, provider=job.provider, provider_job_id=job.provider_job_id, limit=2
        )
        found = await self._context.registry.store.list(same)
        others = [each.job_id for each in found if each.job_id != job.job_id]
        if job.provider_job_id is None or not others:
            return
        title = self._context.clients[job.provider].provider.title
        said = (
            f"{title} gave it the id of {others[0]}: it may be the same job there, and not one more"
        )
        await self._context.record(
            live,
            lambda job: None if said in job.warnings else job.next(warnings=(*job.warnings, said)),
            (),
        )

    async def _refuse(self, live: LiveJob, error: Failure) -> None:
        now = self._context.clock()
        status = "blocked" if error.code in BLOCKED else "failed"
        items = [
            attempt.next(state="refused", answered_at=now)
            for attempt in (live.items or {}).values()
        ]
        await self._context.record(
            live,
            lambda job: (
                job.next(
                    status=status,
                    updated_at=now,
                    ended_at=now,
                    error=error,
                    queued_for=None,
                    starts_at=None,
                )
                if job.status != "cancelled"  # while it was looked whether it may be sent
                else None
            ),
            [*live.answered(now, "refused", evidence={"code": error.code}), *items],
        )
        self.forget(live.job)
        slots.release(self._context, live.job)

    async def _try_later(
        self,
        live: LiveJob,
        operation: JobOperation,
        client: ProviderClient,
        later: Later,
    ) -> None:
        """Queue a job again that the provider will accept later; end it if the allowance is used up."""
        if later.seconds is None and await self._exhausted(live.job, operation, client):
            title = client.provider.title
            said = failure(
                "quota_exhausted", title, provider_message=later.failure.provider_message
            )
            await self._refuse(live, said)
            return
        wait = 0.0
        if not later.key_replaced:
            account = client.account(live.job.fingerprint)
            wait = account.put_off(later.seconds)
            if account.giving_up:
                await self._refuse(live, later.failure)
                return
        limiter = client.limiter(live.job.fingerprint)
        limiter.hold("start", wait)
        await self._back_to_queue(live)
        limiter.release(live.job.job_id)
        self._enqueue_later(live, "pacing", wait)

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

    async def _try_again(self, live: LiveJob, error: Failure) -> None:
        """Send a request again that certainly never arrived, at most a few times."""
        tries = self._tries[live.job.job_id] = self._tries.get(live.job.job_id, 0) + 1
        if NEVER_LEFT.over(tries):
            await self._refuse(live, error)
            return
        await self._back_to_queue(live)
        slots.release(self._context, live.job)
        self._enqueue_later(live, None, NEVER_LEFT.wait(tries))

    async def _back_to_queue(self, live: LiveJob) -> None:
        """Close the attempt and prepare the next one, in one write."""
        now = self._context.clock()
        closed = live.answered(now, "refused")
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
