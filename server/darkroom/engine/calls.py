"""Calls that are answered at once. A call that changes something is an attempt and sent once."""

from __future__ import annotations

from dataclasses import replace
from string import Formatter
from typing import TYPE_CHECKING

import anyio

from darkroom.core.deadlines import ANSWER_SECONDS
from darkroom.core.digests import canonical, digest
from darkroom.core.errors import (
    CallError,
    JournalError,
    call_error,
    failure,
    unknown_job,
    with_next_step,
)
from darkroom.core.foreign import is_name
from darkroom.core.log import log
from darkroom.engine import lost_calls
from darkroom.engine.arguments.validation import canonical_arguments
from darkroom.engine.lost_calls import LOST
from darkroom.jobs.model import Attempt
from darkroom.jobs.receipts import remember
from darkroom.jobs.spending import CapReached, Entry, passes, wants
from darkroom.providers import secret_files
from darkroom.providers.client.outcomes import Accepted, Unknown, describe, judge
from darkroom.providers.client.resend import explained
from darkroom.providers.messages import UNREADABLE, Request, UnreadableError
from darkroom.providers.requests import build_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from darkroom.core.json_types import JsonObject
    from darkroom.engine.person import Person
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.credentials import Key
    from darkroom.providers.messages import Response
    from darkroom.providers.operations import CallOperation
    from darkroom.providers.params import Params
    from darkroom.providers.provider import Provider


class Caller:
    """Makes calls for an owner. ``find`` finds a job by our id or the provider's."""

    def __init__(
        self,
        runtime: Runtime,
        owner: str,
        find: Callable[[Provider, str], Awaitable[LiveJob | None]],
    ) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._owner = owner
        self._find = find

    async def call(
        self,
        provider: Provider,
        call: CallOperation,
        params: Params,
        person: Person,
        *,
        whole_account: bool = True,
        configured: bool = False,
    ) -> JsonObject:
        """Make a call and return its result in the form that the operation declares.

        Without ``whole_account`` it must be about a job of the owner, or personal. ``configured``:
        the configuration wants it, not a caller; its cost is a question to nobody.

        Raises
        ------
        CallError: it was refused, it is unknown whether it was accepted, or the person said no.
        """
        context, began = self._context, anyio.current_time()
        client, live = context.clients[provider.name], None
        key = context.credentials.key(provider, call.credential, owner=self._owner)
        about_a_job = "{job_id}" in call.path
        if not (whole_account or about_a_job or call.personal):
            raise call_error(
                "forbidden",
                f"{call.name} shows or changes what everybody shares who uses this account; "
                "nothing was sent",
                "only an administrator of this server may call it; tell the person",
            )
        told = canonical(canonical_arguments(params))  # ``bind`` may add an id, anew at each call
        if call.bind is not None:
            params = call.bind(params, client.settings, {})
        sent = params
        if about_a_job:
            given: str = getattr(params, "job_id", "")
            live = await self._find(provider, given)
            if live is not None and live.job.status == "queued" and call.withdraws:
                waiting = live
                return await context.detached(lambda: self.withdraw(waiting))
            if live is None and not whole_account:
                raise unknown_job(given)
            if live is None and await context.registry.store.taken(
                self._owner, provider.name, given
            ):
                raise CallError(failure("not_found", provider.title))
            sent = params.model_copy(update={"job_id": _provider_id(provider, given, live)})
        target = await self._target(provider, call, key)
        if call.asks is not None and call.name not in context.settings.approval.never_ask:
            question = _question(call, params)
            await person.approve(call.name, question, canonical(canonical_arguments(params)))
        asked = configured or await self._approved(provider, call, told, person)
        addresses = (live.job.addresses if live is not None else None) or {}
        if call.address is not None and call.address in addresses:
            request = Request(method=call.method, address=addresses[call.address])
        else:
            request = build_request(call, sent, client.settings)
        if call.conditional:
            request = client.conditional(request, key)
        if call.repeatable:
            entry = await self._reserve(provider, call, asked=asked and not configured)
            response = await self._read(provider, call, request, key, entry)
        else:
            response = None
            with anyio.move_on_at(began + ANSWER_SECONDS):
                response = await context.detached(
                    lambda: self._change(provider, call, request, sent, key, live, target)
                )
            if response is None:
                lost = failure("outcome_unknown", provider.title)
                raise CallError(with_next_step(lost, call.if_lost or LOST))
        try:
            result = call.result(response, params) if call.result is not None else plain(response)
            if live is not None:
                await self._take_in(live, call, response)
        except UNREADABLE:
            raise CallError(failure("bad_response", provider.title)) from None
        if call.conditional:
            client.keep_etag(request, key, response)
        return {**result, "file": str(target)} if target is not None else result

    # --- what may be repeated ---

    async def _read(
        self,
        provider: Provider,
        call: CallOperation,
        request: Request,
        key: Key,
        entry: Entry | None,
    ) -> Response:
        client = self._context.clients[provider.name]
        counted = 0

        def lost() -> None:
            nonlocal counted
            counted += 1

        try:
            response = await client.read(request, key, statuses=call.statuses, lost=lost)
            if not response.ok and response.status not in call.accepts:
                failed = describe(provider, response, call.statuses)
                raise CallError(explained(self._context.credentials, key, failed))
            counted += 1
        finally:
            with anyio.CancelScope(shield=True):
                await self._settle(entry, counted)
        return response

    async def _approved(
        self, provider: Provider, call: CallOperation, told: str, person: Person
    ) -> bool:
        """Ask the person before a cost above the configured amounts; tell whether they were asked."""
        context, cost = self._context, call.cost
        if cost is None or call.name in context.settings.approval.never_ask:
            return False
        entry, anyway = self._entry(provider, call), False
        if entry is not None:
            caps = context.tariff.unasked_caps(call.name, provider.name, cost.unit, entry.at)
            used = [(await context.registry.store.used(self._owner, cap), cap) for cap in caps]
            anyway = any(passes(each, cap, entry) for each, cap in used)
        question = context.tariff.question(call.name, provider, cost, anyway=anyway)
        if question is None:
            return False
        await person.approve(call.name, question, told)
        return True

    async def passed(
        self, provider: Provider, call: CallOperation, times: int
    ) -> CapReached | None:
        """Return the first cap that this number of calls would exceed, if any."""
        entry = self._entry(provider, call, times)
        if entry is None:
            return None
        for cap in self._context.tariff.caps(provider.name, entry.unit, entry.at):
            used = await self._context.registry.store.used(self._owner, cap)
            if passes(used, cap, entry):
                return CapReached(cap, used, wants(cap, entry))
        return None

    def _entry(self, provider: Provider, call: CallOperation, times: int = 1) -> Entry | None:
        """Return the ledger entry for a number of calls; None if they cost nothing."""
        if call.cost is None:
            return None
        context, cost = self._context, replace(call.cost, amount=call.cost.amount * times)
        return Entry(
            entry_id=context.new_id(),
            owner=self._owner,
            provider=provider.name,
            operation=call.name,
            unit=cost.unit,
            amount=cost.amount,
            basis=cost.basis,
            money=context.tariff.money(provider.name, cost),
            state="reserved",
            at=context.clock(),
            holder=context.registry.holder,
        )

    async def _reserve(
        self, provider: Provider, call: CallOperation, *, asked: bool
    ) -> Entry | None:
        entry = self._entry(provider, call)
        if entry is None:
            return None
        context = self._context
        entry = replace(entry, asked=asked)
        caps = context.tariff.caps(provider.name, entry.unit, entry.at)
        await context.registry.store.reserve(entry, caps)
        return entry

    async def _settle(self, entry: Entry | None, times: int) -> None:
        """Record how many times a call was, or may have been, counted; a failure is only logged."""
        if entry is None:
            return
        settled = replace(
            entry,
            state="spent" if times else "released",
            amount=entry.amount * max(times, 1),
            money=entry.money and entry.money * max(times, 1),
        )
        try:
            await self._context.registry.store.write(None, [], entry=settled)
        except JournalError as error:
            log.error("the journal cannot be written: %s", error)

    # --- what is sent once ---

    async def _target(self, provider: Provider, call: CallOperation, key: Key) -> Path | None:
        """Return the file for a new key; refuse the call if that file cannot be written."""
        if call.secret is None:
            return None
        context = self._context
        path = context.credentials.file_of(key)
        return await self._runtime.run(
            lambda: secret_files.place(
                call, provider, key, context.settings.credentials.dir, path, context.new_id()
            )
        )

    async def _change(
        self,
        provider: Provider,
        call: CallOperation,
        request: Request,
        params: Params,
        key: Key,
        live: LiveJob | None,
        target: Path | None,
    ) -> Response:
        context = self._context
        client, store = context.clients[provider.name], context.registry.store
        attempt = Attempt(
            attempt_id=context.new_id(),
            owner=self._owner,
            operation=call.name,
            request_hash=digest(
                self._owner, call.name, request.address or request.path, canonical(request.body)
            ),
            evidence={"job_id": live.job.job_id} if live is not None else None,
            created_at=context.clock(),
        )
        permit = await client.permit(key)
        try:
            await store.write(None, [attempt])
            attempt = attempt.next(state="sent", sent_at=context.clock())
            await store.write(None, [attempt])
            response = await client.change(request, key)
        finally:
            permit.done()
        outcome = judge(provider, response, needs_id=False, also_accepts=call.accepts)
        if isinstance(outcome, Accepted):
            accepted = outcome.response
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
            lost_calls.note(context, provider, call, attempt)
            raise CallError(with_next_step(outcome.failure, call.if_lost or LOST))
        await self._close(attempt, "refused", {"code": outcome.failure.code})
        if outcome.failure.code == "auth_failed" and (newer := context.credentials.renewed(key)):
            # the key was rotated meanwhile
            return await self._change(provider, call, request, params, newer, live, target)
        raise CallError(explained(context.credentials, key, outcome.failure))

    async def _close(self, attempt: Attempt, state: str, evidence: JsonObject | None) -> None:
        """Record the outcome of an attempt; if the journal fails, it is written later."""
        closed = attempt.next(
            state=state, answered_at=self._context.clock(), evidence=evidence or attempt.evidence
        )
        await self._context.record_attempt(closed)

    async def _remember(
        self,
        call: CallOperation,
        attempt: Attempt,
        provider: Provider,
        response: Response,
        params: Params,
    ) -> None:
        """Store what later jobs need; an unreadable response is reported elsewhere."""
        try:
            provider_id, what = call.remembers(response, params)  # pyright: ignore[reportOptionalCall] -- looked at where this is called
        except UNREADABLE:
            return
        await remember(self._context, attempt, provider.name, provider_id, what)

    async def _deposit(
        self, provider: Provider, call: CallOperation, response: Response, key: Key, target: Path
    ) -> Response:
        """Write the key in a response to its file, and return the response without the key."""
        in_use = key.secret.get_secret_value()
        found = (
            secret_files.find(call.secret, response, in_use) if call.secret is not None else None
        )
        try:
            if found is not None:
                await self._runtime.run(lambda: secret_files.save(target, found))
                return secret_files.without(response, found)
            kept = await self._runtime.run(lambda: secret_files.keep(target, response))
        except OSError:
            spare = self._context.settings.state_dir / target.name
            kept = await self._runtime.run(lambda: secret_files.keep(spare, response))
        raise call_error(
            "bad_response",
            f"{provider.title} did it, but its answer could not be understood or the file not be "
            f"written; the whole answer was kept in {kept}",
            "tell the person to take the new key from there",
        )

    # --- jobs that a call names ---

    async def withdraw(self, live: LiveJob) -> JsonObject:
        """Cancel a job that still waits here and was not sent.

        Raises
        ------
        CallError: ``conflict``: its request has just left.
        """
        context, now = self._context, self._context.clock()
        await live.load_from(context.registry.store)
        asked = live.job.asks
        attempts = live.attempts()

        def change(job: Job) -> Job:
            if job.status != "queued" or job.asks != asked:  # after an approval it has new attempts
                raise call_error(
                    "conflict", f"{job.job_id} has just been sent", "check it, then cancel it again"
                )
            return job.next(
                status="cancelled",
                updated_at=now,
                ended_at=now,
                queued_for=None,
                starts_at=None,
                error=None,
            )

        closed = [a.next(state="refused", answered_at=now) for a in attempts]
        await context.registry.update(live, change, closed)
        live.attempt = None
        context.schedule.cancel(("start", live.job.job_id))
        return {"job_id": live.job.job_id, "status": "cancelled"}

    async def _take_in(self, live: LiveJob, call: CallOperation, response: Response) -> None:
        """Apply what the response to a call says about the job that the call named."""
        if call.state is not None:
            state = call.state(response)
            await self._context.detached(lambda: self._runtime.poller.ingest(live, state))
        if call.drops_outputs:
            gone = tuple(replace(o, url=None, expires_at=None) for o in live.job.outputs)
            await self._context.record(live, lambda job: job.next(outputs=gone), ())


def _question(call: CallOperation, params: Params) -> str:
    """Return what the person is asked: our words, with names of the caller's in quotes.

    Raises
    ------
    CallError: ``invalid_argument``: what should be a name could be read as more of the question.
    """
    asks, named = call.asks or "", dict[str, str]()
    for name in sorted({field for _, field, _, _ in Formatter().parse(asks) if field}):
        given = str(getattr(params, name))
        if not is_name(given):
            raise call_error(
                "invalid_argument",
                f"{name}: expected letters, digits and any of . _ : / = + -; the person reads it "
                "in the question whether this may be done",
                "give the name or id as the provider writes it",
            )
        named[name] = f'"{given}"'
    summary = f" {call.summary(params)}" if call.summary is not None else ""
    return asks.format(**named) + summary


def _provider_id(provider: Provider, given: str, live: LiveJob | None) -> str:
    if live is None:
        if given.startswith(f"{provider.name}_"):
            raise unknown_job(given)
        return given
    if live.job.provider_job_id is None:
        raise call_error(
            "conflict",
            f"{given} is {live.job.shown_status}: {provider.title} has given it no id",
            "check the job first",
        )
    return live.job.provider_job_id


def plain(response: Response) -> JsonObject:
    """Return the provider's object unchanged; a list or an empty body goes under ``result``.

    Raises
    ------
    UnreadableError: it is text, which is not a response of the provider's API.
    """
    if isinstance(response.body, str):
        raise UnreadableError("no JSON")
    return response.object if isinstance(response.body, dict) else {"result": response.body}
