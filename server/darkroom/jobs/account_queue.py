"""Jobs that wait because nothing is taken from their account: no request of theirs leaves meanwhile.

They stay ``queued`` for ``account``, with the reason. They go on as soon as there is another key or
the account answers again; while it does not, one of them tries, at a distance that grows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import CallError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from darkroom.core.errors import Failure
    from darkroom.jobs.context import JobContext
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

    ``enqueue`` and ``refuse`` are the submitter's: they send a job on, and end it.
    """

    def __init__(
        self,
        context: JobContext,
        enqueue: Callable[[LiveJob], None],
        refuse: Callable[[LiveJob, Failure], Awaitable[None]],
    ) -> None:
        self._context = context
        self._enqueue = enqueue
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

    def wait(self, live: LiveJob, fingerprint: str) -> None:
        """Keep a queued job until the account of a credential is well."""
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

    def forget(self, live: LiveJob) -> None:
        """Take in that a job waits for nothing any more."""
        self._since.pop(live.job.job_id, None)

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
        if account.refusal is None or (waiting and self._renewed(waiting[0], which[1])):
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
            self._enqueue(live)

    def _renewed(self, live: LiveJob, fingerprint: str) -> bool:
        """Tell whether a job would be sent with another credential by now."""
        client = self._context.clients[live.job.provider]
        operation = self._context.operations[live.job.operation]
        try:
            key = self._context.credentials.key(
                client.provider, operation.credential, owner=live.job.owner
            )
        except CallError:
            return False
        return key.fingerprint != fingerprint
