"""Calls that answer at once. One that changes something is an attempt in the journal, sent once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from darkroom import deposit
from darkroom.arguments import canonical_arguments
from darkroom.core import log
from darkroom.errors import (
    CallError,
    JournalError,
    JsonObject,
    call_error,
    failure,
    with_next_step,
)
from darkroom.exchange import build_request
from darkroom.jobs.attempts import Accepted, Unknown, describe, judge
from darkroom.jobs.model import Attempt, canonical, digest
from darkroom.operation import UNREADABLE, UnreadableError
from darkroom.receipts import remember
from darkroom.spending import CapReached, Entry, passes, wants

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from darkroom.approval import Person
    from darkroom.credentials import Key
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import Live
    from darkroom.operation import Answer, Call, Params, Provider, Request
    from darkroom.works import Works

LOST = "look at the present state before trying again"

ANSWER_SECONDS = 43.0
"""A call answers by then, however long the person thought; what was sent goes on."""


class Caller:
    """Makes calls for an owner. ``find`` looks a job up by our id or the provider's."""

    def __init__(
        self,
        works: Works,
        owner: str,
        find: Callable[[Provider, str], Awaitable[Live | None]],
    ) -> None:
        self._works = works
        self._core = works.core
        self._owner = owner
        self._find = find

    async def call(
        self, provider: Provider, call: Call, params: Params, person: Person
    ) -> JsonObject:
        """Make a call; the result is shaped as the operation declares.

        Raises
        ------
        CallError: it was refused, or its fate is unknown, or the person said no.
        """
        core, began = self._core, anyio.current_time()
        channel = core.channels[provider.name]
        key = core.vault.key(provider, call.credential, owner=self._owner)
        live: Live | None = None
        if call.bind is not None:
            params = call.bind(params, channel.settings, {})
        sent = params
        if "{job_id}" in call.path:
            given: str = getattr(params, "job_id", "")
            live = await self._find(provider, given)
            if live is not None and live.job.status == "queued" and call.withdraws:
                waiting = live
                return await core.detached(lambda: self.withdraw(waiting))
            sent = params.model_copy(update={"job_id": _provider_id(provider, given, live)})
        target = await self._target(provider, call, key)
        if call.asks is not None and call.name not in core.settings.approval.never_ask:
            question = call.asks.format(**params.model_dump(exclude_none=True))
            await person.approve(call.name, question, canonical(canonical_arguments(params)))
        request = build_request(call, sent, channel.settings)
        if call.conditional:
            request = channel.conditional(request, key)
        if call.repeatable:
            answer = await self._read(provider, call, request, key)
        else:
            answer = None
            with anyio.move_on_at(began + ANSWER_SECONDS):
                answer = await core.detached(
                    lambda: self._change(provider, call, request, sent, key, live, target)
                )
            if answer is None:
                lost = failure("outcome_unknown", provider.title)
                raise CallError(with_next_step(lost, call.if_lost or LOST))
        try:
            result = call.result(answer, params) if call.result is not None else plain(answer)
            if live is not None:
                await self._take_in(live, call, answer)
        except UNREADABLE:
            raise CallError(failure("bad_response", provider.title)) from None
        if call.conditional:
            channel.keep_etag(request, key, answer)
        return {**result, "file": str(target)} if target is not None else result

    # --- what may be repeated ---

    async def _read(self, provider: Provider, call: Call, request: Request, key: Key) -> Answer:
        channel = self._core.channels[provider.name]
        entry = await self._reserve(provider, call)
        counted = 0

        def lost() -> None:
            nonlocal counted
            counted += 1

        try:
            answer = await channel.read(request, key, statuses=call.statuses, lost=lost)
            if not answer.ok and answer.status not in call.accepts:
                raise CallError(describe(provider, answer, call.statuses))
            counted += 1
        finally:
            with anyio.CancelScope(shield=True):
                await self._settle(entry, counted)
        return answer

    async def passed(self, provider: Provider, call: Call, times: int) -> CapReached | None:
        """Return the first cap that so many calls would pass, if any."""
        entry = self._entry(provider, call, times)
        if entry is None:
            return None
        for cap in self._core.tariff.caps(provider.name, entry.unit, entry.at):
            used = await self._core.registry.store.used(self._owner, cap)
            if passes(used, cap, entry):
                return CapReached(cap, used, wants(cap, entry))
        return None

    def _entry(self, provider: Provider, call: Call, times: int = 1) -> Entry | None:
        """Return what a call takes from the caps, made so often; None: nothing."""
        if call.cost is None:
            return None
        core, cost = self._core, replace(call.cost, amount=call.cost.amount * times)
        return Entry(
            entry_id=core.new_id(),
            owner=self._owner,
            provider=provider.name,
            operation=call.name,
            unit=cost.unit,
            amount=cost.amount,
            basis=cost.basis,
            money=core.tariff.money(provider.name, cost),
            state="reserved",
            at=core.clock(),
            holder=core.registry.holder,
        )

    async def _reserve(self, provider: Provider, call: Call) -> Entry | None:
        entry = self._entry(provider, call)
        if entry is None:
            return None
        core = self._core
        try:
            caps = core.tariff.caps(provider.name, entry.unit, entry.at)
            await core.registry.store.reserve(entry, caps)
        except CapReached as reached:
            raise reached.error from None
        except JournalError as error:
            raise CallError(error.failure) from None
        return entry

    async def _settle(self, entry: Entry | None, times: int) -> None:
        """Write down how often a call was counted, or may have been; nothing depends on it."""
        if entry is None:
            return
        settled = replace(
            entry,
            state="spent" if times else "released",
            amount=entry.amount * max(times, 1),
            money=entry.money and entry.money * max(times, 1),
        )
        try:
            await self._core.registry.store.write(None, [], entry=settled)
        except JournalError as error:
            log.error("the journal cannot be written: %s", error)

    # --- what is sent once ---

    async def _target(self, provider: Provider, call: Call, key: Key) -> Path | None:
        """Return where a new key will be written; refuse before anything is sent if it cannot."""
        if call.secret is None:
            return None
        core = self._core
        path = core.vault.file_of(key)
        return await self._works.run(
            lambda: deposit.place(call, provider, key, core.settings, path, core.new_id())
        )

    async def _change(
        self,
        provider: Provider,
        call: Call,
        request: Request,
        params: Params,
        key: Key,
        live: Live | None,
        target: Path | None,
    ) -> Answer:
        core = self._core
        channel, store = core.channels[provider.name], core.registry.store
        attempt = Attempt(
            attempt_id=core.new_id(),
            owner=self._owner,
            operation=call.name,
            request_hash=digest(self._owner, call.name, request.path, canonical(request.body)),
            evidence={"job_id": live.job.job_id} if live is not None else None,
            created_at=core.clock(),
        )
        turn = await channel.turn(key)
        try:
            await store.write(None, [attempt])
            attempt = attempt.next(state="sent", sent_at=core.clock())
            await store.write(None, [attempt])
            answer = await channel.change(request, key)
        except JournalError as error:
            raise CallError(error.failure) from None
        finally:
            turn.done()
        outcome = judge(provider, answer, needs_id=False, also_accepts=call.accepts)
        if isinstance(outcome, Accepted):
            accepted = outcome.answer
            try:
                if call.secret is not None and target is not None:
                    accepted = await self._deposit(provider, call, accepted, key, target)
            finally:
                await self._close(attempt, "accepted", None)
            if call.remembers is not None:
                await self._remember(call, attempt, provider, accepted, params)
            return accepted
        if isinstance(outcome, Unknown):
            await self._close(attempt, "unknown", outcome.evidence)
            raise CallError(with_next_step(outcome.failure, call.if_lost or LOST))
        await self._close(attempt, "refused", {"code": outcome.failure.code})
        if outcome.failure.code == "auth_failed" and (newer := core.vault.renewed(key)):
            # the key was rotated meanwhile
            return await self._change(provider, call, request, params, newer, live, target)
        raise CallError(outcome.failure)

    async def _close(self, attempt: Attempt, state: str, evidence: JsonObject | None) -> None:
        """Write down what became of an attempt; if the journal fails now, it has happened still."""
        closed = attempt.next(
            state=state, answered_at=self._core.clock(), evidence=evidence or attempt.evidence
        )
        await self._core.record_attempt(closed)

    async def _remember(
        self, call: Call, attempt: Attempt, provider: Provider, answer: Answer, params: Params
    ) -> None:
        """Keep what later jobs build upon; an answer that cannot be read is an error elsewhere."""
        try:
            provider_id, what = call.remembers(answer, params)  # pyright: ignore[reportOptionalCall] -- looked at where this is called
        except UNREADABLE:
            return
        await remember(self._core, attempt, provider.name, provider_id, what)

    async def _deposit(
        self, provider: Provider, call: Call, answer: Answer, key: Key, target: Path
    ) -> Answer:
        """Bring a key from an answer into its file; what goes on from here does not hold it."""
        in_use = key.secret.get_secret_value()
        found = deposit.find(call.secret, answer, in_use) if call.secret is not None else None
        try:
            if found is not None:
                await self._works.run(lambda: deposit.save(target, found))
                return deposit.without(answer, found)
            kept = await self._works.run(lambda: deposit.keep(target, answer))
        except OSError:
            spare = self._core.settings.state_dir / target.name
            kept = await self._works.run(lambda: deposit.keep(spare, answer))
        raise call_error(
            "bad_response",
            f"{provider.title} did it, but its answer could not be understood or the file not be "
            f"written; the whole answer was kept in {kept}",
            "tell the person to take the new key from there",
        )

    # --- jobs that a call names ---

    async def withdraw(self, live: Live) -> JsonObject:
        """Cancel a job that still waits here: its request never left."""
        core, now = self._core, self._core.clock()
        asked = live.job.asks
        attempts = [a for a in (live.attempt, *(live.items or {}).values()) if a is not None]

        def change(job: Job) -> Job:
            if job.status != "queued" or job.asks != asked:  # after a yes it has other attempts
                raise call_error(
                    "conflict", f"{job.job_id} has just left", "check it, then cancel it again"
                )
            return job.next(status="cancelled", updated_at=now, ended_at=now, queued_for=None)

        closed = [a.next(state="refused", answered_at=now) for a in attempts]
        await core.registry.update(live, change, closed)
        live.attempt = None
        core.schedule.cancel(("start", live.job.job_id))
        return {"job_id": live.job.job_id, "status": "cancelled"}

    async def _take_in(self, live: Live, call: Call, answer: Answer) -> None:
        """Take in what the answer to a call says of the job that it named."""
        if call.state is not None:
            state = call.state(answer)
            await self._core.detached(lambda: self._works.poller.ingest(live, state))
        if call.drops_outputs:
            gone = tuple(replace(o, url=None, expires_at=None) for o in live.job.outputs)
            await self._core.record(live, lambda job: job.next(outputs=gone), ())


def _provider_id(provider: Provider, given: str, live: Live | None) -> str:
    if live is None:
        if given.startswith(f"{provider.name}_"):
            raise call_error(
                "not_found", f"there is no job {given}", "list_jobs shows the jobs known here"
            )
        return given
    if live.job.provider_job_id is None:
        raise call_error(
            "conflict",
            f"{given} is {live.job.status}: {provider.title} has given it no id",
            "check the job first",
        )
    return live.job.provider_job_id


def plain(answer: Answer) -> JsonObject:
    """Return the provider's object as it is, a list or nothing under ``result``.

    Raises
    ------
    UnreadableError: it is text, so no answer of the provider's interface.
    """
    if isinstance(answer.body, str):
        raise UnreadableError("no JSON")
    return answer.object if isinstance(answer.body, dict) else {"result": answer.body}
