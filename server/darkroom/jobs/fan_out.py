"""Sends the requests of a job of many requests, a few at a time; each is an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import CallError, Code, JournalError
from darkroom.jobs.context import TROUBLE_SECONDS, NoKeyError
from darkroom.jobs.fan_out_state import WITHDRAWN, unsent
from darkroom.jobs.inputs import not_understood
from darkroom.providers.client.outcomes import Accepted, Later, NeverLeft, Refused, Unknown, judge
from darkroom.providers.client.resend import ITEM_REFUSED_FOR_NOW, NEVER_LEFT, with_newer_key
from darkroom.providers.messages import UNREADABLE, State
from darkroom.providers.operations import FanOutOperation

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.inputs import Inputs
    from darkroom.jobs.model import Attempt
    from darkroom.jobs.poller import Poller
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.client.outcomes import Outcome

AT_ONCE = 4
"""Requests of one job that are sent at the same time."""

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
"""Refusals that apply to all further requests of the job, so that the rest is not sent."""


class ItemSender:
    """Sends the items of jobs of a `FanOutOperation`."""

    def __init__(self, context: JobContext, poller: Poller, inputs: Inputs) -> None:
        self._context = context
        self._poller = poller
        self._inputs = inputs

    def start(self, live: LiveJob) -> None:
        """Send every item of a job that has not been sent yet."""
        waiting = [a for a in (live.items or {}).values() if a.state == "prepared"]
        waiting.reverse()
        for _ in range(min(AT_ONCE, len(waiting))):
            self._context.spawn(self._work, live, waiting)

    async def _work(self, live: LiveJob, waiting: list[Attempt]) -> None:
        limiter = self._context.clients[live.job.provider].limiter(live.job.fingerprint)
        while waiting and not live.job.ended and not self._context.closing:
            attempt = waiting.pop()
            tried = 0
            while True:
                permit = await limiter.permit(live.job.batch_id or "start")
                if self._context.closing:  # the next process sends the rest
                    permit.give_back()
                    return
                if await self._cancelled(live):
                    permit.give_back()
                    rest = [attempt, *waiting]
                    waiting.clear()
                    await self._give_up(live, rest, {"code": WITHDRAWN})
                    break
                with self._context.under_way():
                    try:
                        attempt, outcome = await self._send(live, attempt)
                    except (
                        JournalError,
                        NoKeyError,
                    ) as error:  # nothing was sent; it waits until it can be
                        permit.give_back()
                        live.trouble = str(error)
                        outcome = None
                    finally:
                        permit.done()
                    if outcome is None:
                        wait = TROUBLE_SECONDS
                    else:
                        if not (replaced := isinstance(outcome, Later) and outcome.key_replaced):
                            tried += 1
                        wait = 0.0 if replaced else _wait_after(outcome, tried)
                        if wait is None:
                            if await self._settle(live, attempt, outcome) and waiting:
                                rest = [*waiting]
                                waiting.clear()
                                await self._give_up(live, rest)
                            break
                if outcome is None:
                    await anyio.sleep(wait)
                    if live.job.ended:
                        return
                elif isinstance(outcome, NeverLeft):
                    await anyio.sleep(wait)
                else:
                    limiter.hold("start", wait)
        if unsent(live) or live.job.ended:
            return
        if all(attempt.state == "refused" for attempt in (live.items or {}).values()):
            await self._poller.ingest(live, State(status="running"))  # there is nothing to poll
        else:
            self._poller.follow(live)

    async def _send(self, live: LiveJob, attempt: Attempt) -> tuple[Attempt, Outcome]:
        client = self._context.clients[live.job.provider]
        operation = self._context.operations[live.job.operation]
        if not isinstance(operation, FanOutOperation):
            raise TypeError(operation.name)
        sent = attempt.next(state="sent", sent_at=self._context.clock())
        key = self._context.key(live.job, operation)
        try:
            inputs = await self._inputs.addresses(live.job)
            params = self._context.params(live.job, operation, inputs)
            request = operation.item_request(
                params, client.settings, live.job.provider_job_id or "", attempt.item or ""
            )
            await self._context.registry.update(live, lambda _: None, [sent])
        except JournalError:
            raise
        except CallError as error:
            return attempt, Refused(error.failure)
        except UNREADABLE:
            return attempt, Refused(not_understood())
        live.trouble = None
        live.keep(sent)
        response = await client.change(request, key)
        outcome = with_newer_key(
            self._context.credentials, key, judge(client.provider, response, needs_id=False)
        )
        if isinstance(outcome, (Later, NeverLeft)):
            sent = sent.next(state="prepared", sent_at=None)
            await self._context.record(live, lambda _: None, [sent])
            live.keep(sent)
        return sent, outcome

    async def _settle(self, live: LiveJob, attempt: Attempt, outcome: Outcome) -> bool:
        """Record the outcome of an item; tell whether all further items would be refused too."""
        now = self._context.clock()
        error = None
        match outcome:
            case Accepted():
                attempt = attempt.next(state="accepted", answered_at=now)
            case Unknown(_, evidence):
                attempt = attempt.next(state="unknown", answered_at=now, evidence=evidence)
            case Refused(error) | Later(error, _) | NeverLeft(error):
                evidence = {"code": error.code, "provider_message": error.provider_message}
                attempt = attempt.next(state="refused", answered_at=now, evidence=evidence)
        live.keep(attempt)
        refused = error
        await self._context.record(
            live,
            lambda job: job.next(error=refused, updated_at=now) if refused is not None else None,
            [attempt],
        )
        return refused is not None and refused.code in ALL_ALIKE

    async def _cancelled(self, live: LiveJob) -> bool:
        """Tell whether somebody, maybe in another process, wants the job cancelled."""
        try:
            await self._context.registry.refresh(live)
        except JournalError:  # then `_send` cannot write either
            return False
        return live.job.cancel_wanted

    async def _give_up(
        self, live: LiveJob, waiting: list[Attempt], evidence: JsonObject | None = None
    ) -> None:
        now = self._context.clock()
        refused = [
            attempt.next(state="refused", answered_at=now, evidence=evidence) for attempt in waiting
        ]
        for attempt in refused:
            live.keep(attempt)
        await self._context.record(live, lambda _: None, refused)


def _wait_after(outcome: Outcome, tried: int) -> float | None:
    """Return how long to wait before an item is sent again; None: this outcome is final."""
    match outcome:
        case Later(_, seconds) if not ITEM_REFUSED_FOR_NOW.over(tried):
            return seconds or ITEM_REFUSED_FOR_NOW.wait(tried)
        case NeverLeft() if not NEVER_LEFT.over(tried):
            return NEVER_LEFT.wait(tried)
        case _:
            return None
