"""From a start call to a job: identical calls, policy, approval, caps, and the first write."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import anyio

from darkroom.core.deadlines import ANSWER_SECONDS, SENDING_SECONDS
from darkroom.core.digests import canonical, digest
from darkroom.core.errors import CallError, JournalError, call_error, failure
from darkroom.engine.arguments.validation import canonical_arguments, validate
from darkroom.engine.local_files import nameless, said_of, taken_in
from darkroom.engine.person import Nobody
from darkroom.engine.policy_gate import Screened, texts_of, unchanged_text_of
from darkroom.engine.recovery import recover_from
from darkroom.engine.resemblance import doubt_about
from darkroom.engine.started import (
    IDENTICAL,
    MOST_NAMED,
    SEND_ALL_THE_SAME,
    STILL_UNKNOWN,
    Place,
    Started,
)
from darkroom.jobs.model import Attempt, Intent
from darkroom.jobs.quota import beginnings, outlook_of
from darkroom.jobs.receipts import foreign, recall
from darkroom.jobs.registry import LiveJob
from darkroom.jobs.spending import CapReached
from darkroom.providers.operations import FanOutOperation

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from darkroom.core.json_types import JsonObject
    from darkroom.engine.person import Person
    from darkroom.engine.policy_gate import Judgements, PolicyGate
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job
    from darkroom.jobs.quota import Outlook
    from darkroom.jobs.spending import Cap
    from darkroom.jobs.store import Created, Forecast
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.params import StartParams
    from darkroom.providers.provider import Provider


class Starter:
    """Starts jobs for an owner."""

    def __init__(self, runtime: Runtime, owner: str, guard: PolicyGate | None = None) -> None:
        self._runtime = runtime
        self._guard = guard
        self._context = runtime.context
        self._owner = owner

    async def start(
        self, provider: Provider, operation: JobOperation, params: StartParams, person: Person
    ) -> Started:
        """Start a job, or return the existing job with the same intent.

        Returns when the provider has accepted the job, or at once if it has to wait. It also waits
        if the host takes the person's approval within a task.

        Raises
        ------
        CallError: it was refused (the row stays, with the same error), it would exceed a cap, or
            the person said no.
        """
        began, context = anyio.current_time(), self._context
        params = await taken_in(self._runtime, provider, operation, params, self._owner)
        intent = self._intent(provider, operation, params)
        forecast = await self._foresee(provider, operation, intent)
        if forecast.known is not None:  # whatever has become of what it was made of
            started = await self._again(forecast.known, intent)
        else:
            try:
                started = await self._start_new(
                    provider, operation, params, intent, forecast, person
                )
            except CapReached as reached:
                if not reached.cap.unasked:
                    raise
                # Calls side by side have used what was left, so that the person is asked after all.
                asks = replace(forecast, asks=True)
                started = await self._start_new(provider, operation, params, intent, asks, person)
        left = began + ANSWER_SECONDS - anyio.current_time()
        live = await context.registry.wait(
            started.live, min(left, SENDING_SECONDS), until=_has_left_or_waits
        )
        if live.job.error is not None and live.job.status in {"failed", "blocked"}:
            raise CallError(live.job.error)
        if started.identical:
            return Started(live, (STILL_UNKNOWN if live.job.status == "unknown" else IDENTICAL,))
        return Started(live, started.warnings)

    async def _start_new(
        self,
        provider: Provider,
        operation: JobOperation,
        params: StartParams,
        intent: Intent,
        forecast: Forecast,
        person: Person,
    ) -> Started:
        screened, bound = await self._prepared(provider, operation, params, intent, person, {})
        arguments = intent.arguments if bound is params else canonical_arguments(bound)
        job = intent.job(arguments, warnings=screened.warnings)
        if missing := await self._runtime.inputs.missing(job):
            raise call_error(
                "invalid_argument",
                f"there is no job behind {', '.join(missing)}",
                "list_jobs shows the jobs whose outputs can be used",
            )
        key, at = intent.fingerprint, intent.created_at
        ahead = outlook_of(self._context, provider, operation, forecast.usage, key, at)
        if (refusal := ahead.refusal) is not None:
            raise refusal
        doubt = None
        if forecast.doubtful is not None or forecast.unknown:
            doubt = doubt_about(provider, operation, intent, forecast)
        question = self._question(provider, intent, ahead, anyway=forecast.asks)
        tool = intent.operation
        if doubt is not None and forecast.doubtful is None and self._may_ask(tool, person):
            question = " ".join(filter(None, [question, f"{doubt}. {SEND_ALL_THE_SAME}"]))
        if question is not None and forecast.reached is not None:
            raise forecast.reached
        if question is not None and person.answers_tasks:
            approval = self._runtime.questions.approval(question)
            job = intent.job(arguments, warnings=screened.warnings, approval=approval)
        else:
            if question is not None:
                binding = digest(intent.intent, intent.idempotency_key or "", *ahead.said)
                await person.approve(intent.operation, question, binding)
            if ahead.charge is not None:
                job = intent.job(arguments, warnings=(*screened.warnings, ahead.charge))
            job = replace(job, asked=question is not None)
        started = await self._context.detached(lambda: self._begin(operation, bound, job))
        if doubt is not None and not started.known:
            return replace(started, warnings=(*started.warnings, doubt))
        return started

    async def _prepared(
        self,
        provider: Provider,
        operation: JobOperation,
        params: StartParams,
        intent: Intent,
        person: Person,
        judged: Judgements,
    ) -> tuple[Screened, StartParams]:
        """Return the arguments as the policy lets them be sent, and as they are sent."""
        self._need_limits(provider, intent.fingerprint)
        screened = await self.screen(operation, params, person, judged)
        bound = await self._bind(provider, operation, screened.params)
        said = await self.screen_unchanged(operation, bound, person, judged)
        await self._refuse_used_names(operation, bound, intent)
        said = (*screened.warnings, *said_of(self._runtime, intent.arguments), *said)
        return replace(screened, warnings=said), bound

    async def screen(
        self,
        operation: JobOperation,
        params: StartParams,
        person: Person,
        judged: Judgements,
    ) -> Screened:
        """Return the arguments that the policy allows to be sent; see `PolicyGate.screen`."""
        if self._guard is None or not operation.texts:
            return Screened(params)
        return await self._guard.screen(operation, params, person, judged)

    async def screen_unchanged(
        self, operation: JobOperation, bound: StartParams, person: Person, judged: Judgements
    ) -> tuple[str, ...]:
        """Return warnings about texts that are sent as they are; see `PolicyGate.screen_unchanged`."""
        if self._guard is None or not operation.texts_unchanged:
            return ()
        return await self._guard.screen_unchanged(operation, bound, person, judged)

    async def judge(
        self, calls: Iterable[tuple[Provider, JobOperation, StartParams]], person: Person
    ) -> Judgements:
        """Let the policy, if there is one, evaluate the texts of many calls; see `PolicyGate.judge`."""
        if self._guard is None:
            return {}
        texts: list[str] = []
        for provider, operation, params in calls:
            texts += texts_of(operation, params)
            if operation.texts_unchanged:
                with suppress(CallError):  # the row of this item cannot be made, and says why
                    bound = await self._bind(provider, operation, params)
                    texts += unchanged_text_of(operation, bound)
        return await self._guard.judge(list(dict.fromkeys(texts)), person)

    async def rows(
        self,
        provider: Provider,
        operation: JobOperation,
        params: StartParams,
        person: Person,
        judged: Judgements,
        place: Place,
    ) -> tuple[Job, list[Attempt]]:
        """Return the rows that a start call would write; a batch writes them together.

        ``judged`` holds the policy's decisions about the batch's texts (see `judge`).
        """
        intent = self._intent(provider, operation, params, place)
        screened, bound = await self._prepared(provider, operation, params, intent, person, judged)
        arguments = intent.arguments if bound is params else canonical_arguments(bound)
        job = intent.job(arguments, warnings=screened.warnings)
        return job, self.attempts(operation, bound, job)

    def attempts_again(self, job: Job, operation: JobOperation) -> list[Attempt]:
        """Return new attempts for a job that is run again."""
        params = cast("StartParams", self._context.params(job, operation))
        unopened = replace(job, provider_job_id=None, created_at=self._context.clock())
        return self.attempts(operation, params, unopened)

    async def start_in_batch(
        self,
        provider: Provider,
        operation: JobOperation,
        arguments: JsonObject,
        place: Place,
        *,
        tool: str,
        asked: bool,
    ) -> None:
        """Add a job to a running batch; calling it again, in any process, has no effect.

        ``tool`` started the batch; ``asked`` tells whether the person said yes to this job.
        """
        params = validate(operation.params, arguments, admitted=self._context.admitted, files=True)
        given = await taken_in(self._runtime, provider, operation, params, self._owner)
        once = replace(place, idempotency_key=f"{place.batch_id}:{place.item}")
        job, attempts = await self.rows(provider, operation, given, Nobody(), {}, once)
        await self._insert(replace(job, asked=asked), attempts, tool)

    async def _bind(
        self, provider: Provider, operation: JobOperation, params: StartParams
    ) -> StartParams:
        """Replace what the arguments only name by its content; see `Bind`."""
        if operation.bind is None:
            return params
        context = self._context
        remembered: JsonObject = {}
        if (
            isinstance(operation, FanOutOperation)
            and (opened := operation.opened(params)) is not None
        ):
            store = context.registry.store
            remembered = await recall(store, self._owner, provider.name, opened) or {}
        settings = context.clients[provider.name].settings
        return cast("StartParams", operation.bind(params, settings, remembered))

    async def _refuse_used_names(
        self, operation: JobOperation, params: StartParams, intent: Intent
    ) -> None:
        """Refuse names used before, unless it is the same intent: then its job is returned."""
        try:
            await self.refuse_sent_names(operation, params, intent)
        except CallError:
            store = self._context.registry.store
            since = self.identical_since()
            known = await store.identical(intent, since=since, by_key_only=self.by_key_only)
            if known is None:
                raise

    async def refuse_sent_names(
        self, operation: JobOperation, params: StartParams, to: Intent | Job
    ) -> None:
        """Refuse items that were sent before to what the arguments name: results are told by them."""
        opened = to.provider_job_id
        if not isinstance(operation, FanOutOperation) or opened is None:
            return
        store = self._context.registry.store
        if await foreign(store, self._owner, to.provider, opened, team=self._context.team):
            provider = self._context.clients[to.provider].provider
            raise CallError(failure("not_found", provider.title))
        used = await store.sent_items(self._owner, to.provider, opened)
        if again := [name for name in operation.items(params) if name in used]:
            raise call_error(
                "invalid_argument",
                f"{', '.join(again[:MOST_NAMED])}: already sent to {opened}",
                "give names that are new there",
            )

    def _need_limits(self, provider: Provider, fingerprint: str) -> None:
        """Refuse to start what would be sent without regard to the other servers' requests."""
        trouble = self._context.clients[provider.name].limiter(fingerprint).trouble
        if trouble is not None:
            reason = trouble.strerror or type(trouble).__name__
            said = f"the limits of {provider.title} cannot be shared between servers: {reason}"
            raise JournalError(said)

    def _intent(
        self,
        provider: Provider,
        operation: JobOperation,
        params: StartParams,
        place: Place | None = None,
    ) -> Intent:
        """Return what a start call asks for; a batch says by ``place`` what its items are called."""
        context = self._context
        key = context.credentials.key(provider, operation.credential, owner=self._owner)
        client, arguments = context.clients[provider.name], canonical_arguments(params)
        opened = operation.opened(params) if isinstance(operation, FanOutOperation) else None
        if place is None:
            place = Place(idempotency_key=params.idempotency_key)
        return Intent(
            job_id=place.job_id or f"{provider.name}_{context.new_id()}",
            owner=self._owner,
            provider=provider.name,
            operation=operation.name,
            arguments=arguments,
            intent=digest(self._owner, operation.name, nameless(canonical(arguments))),
            fingerprint=key.fingerprint,
            created_at=context.clock() if place.created_at is None else place.created_at,
            holder=context.registry.holder,
            idempotency_key=place.idempotency_key,
            batch_id=place.batch_id,
            item=place.item,
            folder=place.folder,
            provider_job_id=opened,
            cost=key.charged(operation.cost(params, client.settings)),
            sandbox=client.sandbox,
        )

    async def _foresee(
        self, provider: Provider, operation: JobOperation, intent: Intent
    ) -> Forecast:
        """Look up, in one turn to the store, all that decides about a start."""
        context, now = self._context, intent.created_at
        return await context.registry.store.foresee(
            intent,
            identical_since=self.identical_since(),
            by_key_only=self.by_key_only,
            entry=context.tariff.reservation(intent),
            caps=self._caps(intent, now),
            used_since=beginnings(context, provider, operation, intent.fingerprint, now),
        )

    def _caps(self, intent: Intent, now: float) -> Sequence[Cap]:
        """Return the caps on a job, and those beyond which the person is asked."""
        if intent.cost is None:
            return ()
        tariff, provider, unit = self._context.tariff, intent.provider, intent.cost.unit
        unasked = tariff.unasked_caps(intent.operation, provider, unit, now)
        return [*tariff.caps(provider, unit, now), *unasked]

    def identical_since(self) -> float | None:
        """Return the time since when a completed job is returned to an identical call, if any."""
        window = self._context.settings.jobs.identical_window_seconds
        return self._context.clock() - window if window else None

    @property
    def by_key_only(self) -> bool:
        """Whether a new key is a new intent, whatever the arguments are."""
        return self._context.settings.jobs.new_key == "new"

    def _may_ask(self, tool: str, person: Person) -> bool:
        return person.can_ask and tool not in self._context.settings.approval.never_ask

    def _question(
        self, provider: Provider, intent: Intent, ahead: Outlook, *, anyway: bool
    ) -> str | None:
        """Return what the person is asked before a cost above the configured amount, if it is.

        A yes holds for what was said with the question, and for nothing dearer or later.
        """
        context = self._context
        if intent.cost is None or intent.operation in context.settings.approval.never_ask:
            return None
        question = context.tariff.question(intent.operation, provider, intent.cost, anyway=anyway)
        return " ".join([question, *ahead.said]) if question is not None else None

    async def _begin(self, operation: JobOperation, params: StartParams, job: Job) -> Started:
        """Write the job with its attempts, and queue it; return the existing one if there is one."""
        attempts = [] if job.asks else self.attempts(operation, params, job)
        created, live = await self._insert(job, attempts, operation.name)
        if not created.made:
            return await self._again(created.job, job)
        return Started(live)

    async def _insert(
        self, job: Job, attempts: list[Attempt], tool: str
    ) -> tuple[Created, LiveJob]:
        """Write a job with its attempts in one transaction, and queue it if it is new."""
        context, tariff, now = self._context, self._context.tariff, self._context.clock()
        created = await context.registry.store.create(
            job,
            attempts,
            identical_since=self.identical_since(),
            by_key_only=self.by_key_only,
            entry=tariff.entry(job),
            caps=[*tariff.caps_for(job, now), *tariff.unasked_caps_for(job, tool, now)],
        )
        if not created.made:
            return created, LiveJob(created.job)
        live = context.registry.add(job)
        self._runtime.queue(live, attempts)
        return created, live

    def attempts(self, operation: JobOperation, params: StartParams, job: Job) -> list[Attempt]:
        """Return the attempts of a job: the one that opens it, unless it is open, and its items."""
        names: list[str | None] = [] if job.provider_job_id is not None else [None]
        if isinstance(operation, FanOutOperation):
            names.extend(operation.items(params))
        return [
            Attempt(
                attempt_id=self._context.new_id(),
                owner=self._owner,
                operation=operation.name,
                request_hash=job.intent,
                job_id=job.job_id,
                item=name,
                created_at=job.created_at,
            )
            for name in names
        ]

    async def _again(self, job: Job, asked: Intent | Job) -> Started:
        """Return the existing job with the same intent, or the same key."""
        by_key = asked.idempotency_key is not None and job.idempotency_key == asked.idempotency_key
        if by_key and job.intent != asked.intent:
            raise call_error(
                "conflict",
                f"this idempotency_key belongs to {job.job_id}, started with other arguments",
                "leave idempotency_key out, or repeat the call with the arguments of then",
            )
        if not job.ended:
            await recover_from(self._runtime, [job.holder])
        live = await self._context.registry.get(self._owner, job.job_id) or LiveJob(job)
        return Started(live, identical=not by_key, known=True)


def _has_left_or_waits(live: LiveJob) -> bool:
    job = live.job
    return job.status not in {"queued", "submitting"} or job.queued_for is not None
