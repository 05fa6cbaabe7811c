"""Sending the many requests of one job, a few at a time, each an attempt of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from darkroom.errors import CallError, Code, JournalError
from darkroom.jobs.attempts import Accepted, Later, NeverLeft, Refused, Unknown, judge
from darkroom.jobs.gather import unsent
from darkroom.jobs.inputs import not_understood
from darkroom.operation import UNREADABLE, FanOut, State

if TYPE_CHECKING:
    from darkroom.core import Core
    from darkroom.jobs.attempts import Outcome
    from darkroom.jobs.inputs import Inputs
    from darkroom.jobs.model import Attempt
    from darkroom.jobs.poller import Poller
    from darkroom.jobs.registry import Live

AT_ONCE = 4
"""Requests of one job that are under way together."""

MOST_TRIES = 3
BACKOFF_SECONDS = 1.0
DEFAULT_LATER_SECONDS = 5.0

ALL_ALIKE: frozenset[Code] = frozenset(
    {
        "auth_failed",
        "forbidden",
        "suspended",
        "insufficient_credits",
        "quota_exhausted",
        "not_configured",
    }
)
"""Refusals that every further request would meet: the rest is not sent."""


class ItemSender:
    """Sends the items of `FanOut` jobs."""

    def __init__(self, core: Core, poller: Poller, inputs: Inputs) -> None:
        self._core = core
        self._poller = poller
        self._inputs = inputs

    def start(self, live: Live) -> None:
        """Send every item of a job that was not sent yet."""
        waiting = [a for a in (live.items or {}).values() if a.state == "prepared"]
        waiting.reverse()
        for _ in range(min(AT_ONCE, len(waiting))):
            self._core.spawn(self._work, live, waiting)

    async def _work(self, live: Live, waiting: list[Attempt]) -> None:
        lane = self._core.channels[live.job.provider].lane(live.job.fingerprint)
        while waiting and not live.job.ended and not self._core.closing:
            attempt = waiting.pop()
            tried = 0
            while True:
                tried += 1
                turn = await lane.turn(live.job.batch_id or "start")
                if self._core.closing:  # the rest is sent by whoever starts next
                    turn.give_back()
                    return
                with self._core.under_way():
                    try:
                        attempt, outcome = await self._send(live, attempt)
                    finally:
                        turn.done()
                    if tried == MOST_TRIES or not isinstance(outcome, (Later, NeverLeft)):
                        if await self._settle(live, attempt, outcome) and waiting:
                            await self._give_up(live, waiting)
                        break
                if isinstance(outcome, Later):
                    lane.hold("start", outcome.seconds or DEFAULT_LATER_SECONDS)
                else:
                    await anyio.sleep(BACKOFF_SECONDS * 2 ** (tried - 1))
        if unsent(live) or live.job.ended:
            return
        if all(attempt.state == "refused" for attempt in (live.items or {}).values()):
            await self._poller.ingest(live, State(status="running"))  # there is nothing to ask for
        else:
            self._poller.follow(live)

    async def _send(self, live: Live, attempt: Attempt) -> tuple[Attempt, Outcome]:
        channel = self._core.channels[live.job.provider]
        operation = self._core.operations[live.job.operation]
        if not isinstance(operation, FanOut):
            raise TypeError(operation.name)
        sent = attempt.next(state="sent", sent_at=self._core.clock())
        try:
            key = self._core.vault.key(channel.provider, operation.credential, owner=live.job.owner)
            inputs = await self._inputs.addresses(live.job)
            params = self._core.params(live.job, operation, inputs)
            request = operation.item_request(
                params, channel.settings, live.job.provider_job_id or "", attempt.item or ""
            )
            await self._core.registry.update(live, lambda _: None, [sent])
        except (CallError, JournalError) as error:
            return attempt, Refused(error.failure)
        except UNREADABLE:
            return attempt, Refused(not_understood())
        self._keep(live, sent)
        answer = await channel.change(request, key)
        outcome = judge(channel.provider, answer, needs_id=False)
        if isinstance(outcome, (Later, NeverLeft)):
            sent = sent.next(state="prepared", sent_at=None)
            await self._core.record(live, lambda _: None, [sent])
            self._keep(live, sent)
        return sent, outcome

    async def _settle(self, live: Live, attempt: Attempt, outcome: Outcome) -> bool:
        """Write down what became of an item; tell whether the others would fare the same."""
        now = self._core.clock()
        error = None
        match outcome:
            case Accepted():
                attempt = attempt.next(state="accepted", answered_at=now)
            case Unknown(_, evidence):
                attempt = attempt.next(state="unknown", answered_at=now, evidence=evidence)
            case Refused(error) | Later(error, _) | NeverLeft(error):
                evidence = {"code": error.code, "provider_message": error.provider_message}
                attempt = attempt.next(state="refused", answered_at=now, evidence=evidence)
        self._keep(live, attempt)
        refused = error
        await self._core.record(
            live,
            lambda job: job.next(error=refused, updated_at=now) if refused is not None else None,
            [attempt],
        )
        return refused is not None and refused.code in ALL_ALIKE

    async def _give_up(self, live: Live, waiting: list[Attempt]) -> None:
        now = self._core.clock()
        refused = [attempt.next(state="refused", answered_at=now) for attempt in waiting]
        waiting.clear()
        for attempt in refused:
            self._keep(live, attempt)
        await self._core.record(live, lambda _: None, refused)

    @staticmethod
    def _keep(live: Live, attempt: Attempt) -> None:
        if live.items is not None and attempt.item is not None:
            live.items[attempt.item] = attempt
