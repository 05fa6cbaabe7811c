"""Jobs that wait because nothing is taken from their account: no request of theirs leaves meanwhile.

They stay ``queued`` for ``account``, with the reason. They go on as soon as there is another key or
the account answers again; while it does not, one of them tries, at a distance that grows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import anyio

from darkroom.core.errors import CallError, failure
from darkroom.jobs import slots
from darkroom.providers.client.outcomes import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from darkroom.core.errors import Failure
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job, QueuedFor
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.client.account import Account

LOOK_SECONDS = 60.0
"""How often it is looked whether there is another key; nothing is sent for that."""

LONGEST_WAIT_SECONDS = 3 * 86_400.0
"""A job that waited for its account so long ends with the reason, and can be run again."""

WAITED_FOR_SECONDS = 5.0
"""Whoever made a call is still told of its refusal itself if it is no older than this."""


class AccountQueue:
    """Keeps jobs whose account is refused, by provider and credential.

    ``enqueue_later`` sends a job on after a time, ``refuse`` ends it.
    """

    def __init__(
        self,
        context: JobContext,
        enqueue_later: Callable[[LiveJob, QueuedFor | None, float], None],
        refuse: Callable[[LiveJob, Failure], Awaitable[None]],
    ) -> None:
        self._context = context
        self._enqueue_later = enqueue_later
        self._refuse = refuse
        self._jobs: dict[tuple[str, str], list[LiveJob]] = {}
        self._since: dict[str, float] = {}

    def is_waited_for(self, live: LiveJob) -> bool:
        """Tell whether somebody waits for the answer to the call that started a job."""
        job = live.job
        return (
            job.batch_id is None
            and job.job_id not in self._since
            and self._context.clock() - job.created_at <= WAITED_FOR_SECONDS
        )

    def gate(self, live: LiveJob, fingerprint: str) -> Refused | Literal["waits"] | None:
        """Say whether a job's request may leave (None); otherwise it waits now, or is refused."""
        client = self._context.clients[live.job.provider]
        account = client.account(fingerprint)
        if account.giving_up:
            return Refused(failure("rate_limited", client.provider.title))
        if (pause := account.pause()) > 0:
            slots.release(self._context, live.job)
            self._enqueue_later(live, "pacing", pause)
            return "waits"
        waited_for = self.is_waited_for(live)
        if account.wait(eager=waited_for) <= 0 or account.refusal is None:
            return None
        if waited_for:
            return Refused(replace(account.refusal, retry_after_seconds=account.left))
        self.wait(live, fingerprint)
        return "waits"

    def wait_for_current_key(self, live: LiveJob) -> None:
        """Keep a queued job until the account of the key in use is well."""
        self.wait(live, current_key(self._context, live.job) or live.job.fingerprint)

    def wait(self, live: LiveJob, fingerprint: str) -> None:
        """Keep a queued job until the account of a credential is well."""
        slots.release(self._context, live.job)
        which = (live.job.provider, fingerprint)
        account = self._account(which)
        self._since.setdefault(live.job.job_id, self._context.clock())
        live.job = replace(
            live.job,
            queued_for="account",
            starts_at=self._context.clock() + account.left,
            error=account.refusal,
        )
        live.wake()
        self._jobs.setdefault(which, []).append(live)
        self._look_later(which)

    def forget(self, job: Job) -> None:
        """Take in that a job waits for nothing any more."""
        self._since.pop(job.job_id, None)

    def _account(self, which: tuple[str, str]) -> Account:
        return self._context.clients[which[0]].account(which[1])

    def _look_later(self, which: tuple[str, str]) -> None:
        if self._context.schedule.due(("account", which)) is None:
            due = anyio.current_time() + min(LOOK_SECONDS, max(1.0, self._account(which).left))
            self._context.schedule.at(
                ("account", which), due, lambda: self._context.spawn(self._look, which)
            )

    async def _look(self, which: tuple[str, str]) -> None:
        account = self._account(which)
        waiting = [live for live in self._jobs.pop(which, []) if live.job.status == "queued"]
        late = self._context.clock() - LONGEST_WAIT_SECONDS
        for live in [each for each in waiting if self._since.get(each.job.job_id, late) <= late]:
            waiting.remove(live)
            if account.refusal is not None:
                await self._refuse(live, replace(account.refusal, retryable=True))
        if account.refusal is None or (
            waiting and current_key(self._context, waiting[0].job) not in {None, which[1]}
        ):
            go_on, stay = waiting, waiting[:0]
        elif account.left <= 0:
            go_on, stay = waiting[:1], waiting[1:]  # it tries for all of them
        else:
            go_on, stay = [], waiting
        if stay:
            self._jobs.setdefault(which, [])[:0] = stay
            self._look_later(which)
        for live in go_on:
            live.job = replace(live.job, error=None)
            self._enqueue_later(live, None, 0.0)


def current_key(context: JobContext, job: Job) -> str | None:
    """Return the fingerprint of the key that a job's requests carry now; None: there is none."""
    operation = context.operations[job.operation]
    provider = context.clients[job.provider].provider
    try:
        return context.credentials.key(provider, operation.credential, owner=job.owner).fingerprint
    except CallError:
        return None


def look_wait(context: JobContext, live: LiveJob) -> float:
    """Return the seconds until a job may be looked at; only one look at a time tries its account."""
    client = context.clients[live.job.provider]
    if not client.refused or (fingerprint := current_key(context, live.job)) is None:
        return 0.0
    account = client.account(fingerprint)
    wait = account.wait(look=True)
    if wait > 0 and account.refusal is not None:
        live.trouble = account.refusal.message
    return wait
