"""From a start call to a job: identical calls, policy, approval, caps, and the first write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import anyio

from darkroom.core.digests import canonical, digest
from darkroom.core.errors import CallError, JournalError, call_error
from darkroom.engine.arguments.validation import canonical_arguments, validate
from darkroom.engine.person import Nobody
from darkroom.engine.policy_gate import Screened, texts_of
from darkroom.engine.recovery import recover_from
from darkroom.jobs.model import Attempt, Job
from darkroom.jobs.quota import outlook
from darkroom.jobs.receipts import recall
from darkroom.jobs.registry import LiveJob
from darkroom.jobs.store import Created, Query
from darkroom.providers.operations import FanOutOperation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkroom.core.json_types import JsonObject
    from darkroom.engine.person import Person
    from darkroom.engine.policy_gate import Judgements, PolicyGate
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.quota import Outlook
    from darkroom.providers.credentials import Key
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.params import StartParams
    from darkroom.providers.provider import Provider

ANSWER_SECONDS = 43.0
"""A start call is answered within this time; the attempt goes on after it."""

SENDING_SECONDS = 40.0
"""Longest wait for the provider."""

IDENTICAL = (
    "an identical call was made before: this is its job, nothing new was started; "
    "to get several, use copies of start_batch or vary the arguments"
)
MOST_NAMED = 20
"""Maximum number of items that an error names."""

MOST_BESIDE = 1_000
"""Maximum number of jobs that are examined for an opened request."""

STILL_UNKNOWN = "an identical call is of unknown fate; it was not sent again"


@dataclass(frozen=True, slots=True)
class Started:
    """A job, and warnings for the caller."""

    live: LiveJob
    warnings: tuple[str, ...] = ()
    identical: bool = False
    """Whether an earlier identical call without a key had started it."""


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
        context, began = self._context, anyio.current_time()
        key = context.credentials.key(provider, operation.credential, owner=self._owner)
        asked = self._draft(provider, operation, params, params, key)
        known = await context.registry.store.foresee(asked, identical_since=self.identical_since())
        if known is not None:  # whatever has become of what it was made of
            started = await self._again(
                known, asked.intent, by_key=params.idempotency_key is not None
            )
        else:
            started = await self._start_new(provider, operation, params, key, person)
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
        key: Key,
        person: Person,
    ) -> Started:
        self._need_limits(provider, key)
        screened = await self.screen(operation, params, person, {})
        bound = await self._bind(provider, operation, screened.params)
        draft = self._draft(provider, operation, params, bound, key)
        draft = replace(draft, warnings=screened.warnings)
        await self._refuse_used_names(operation, bound, draft)
        if missing := await self._runtime.inputs.missing(draft, self._owner):
            raise call_error(
                "invalid_argument",
                f"there is no job behind {', '.join(missing)}",
                "list_jobs shows the jobs whose outputs can be used",
            )
        ahead = await outlook(self._context, provider, operation, self._owner)
        if (refusal := ahead.refusal) is not None:
            raise refusal
        question = await self._question(provider, draft, ahead)
        if question is not None and person.answers_tasks:
            draft = self._runtime.questions.ask(draft, question)
        else:
            if question is not None:
                binding = digest(draft.intent, draft.idempotency_key or "", *ahead.said)
                await person.approve(draft.operation, question, binding)
            if ahead.charge is not None:
                draft = replace(draft, warnings=(*draft.warnings, ahead.charge))
        return await self._context.detached(lambda: self._begin(operation, bound, draft))

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

    async def judge(
        self, calls: Iterable[tuple[JobOperation, StartParams]], person: Person
    ) -> Judgements:
        """Let the policy, if there is one, evaluate the texts of many calls; see `PolicyGate.judge`."""
        if self._guard is None:
            return {}
        texts = [text for operation, params in calls for text in texts_of(operation, params)]
        return await self._guard.judge(list(dict.fromkeys(texts)), person)

    async def rows(
        self,
        provider: Provider,
        operation: JobOperation,
        params: StartParams,
        person: Person,
        judged: Judgements,
    ) -> tuple[Job, list[Attempt]]:
        """Return the rows that a start call would write; a batch writes them together.

        ``judged`` holds the policy's decisions about the batch's texts (see `judge`).
        """
        key = self._context.credentials.key(provider, operation.credential, owner=self._owner)
        self._need_limits(provider, key)
        screened = await self.screen(operation, params, person, judged)
        bound = await self._bind(provider, operation, screened.params)
        draft = self._draft(provider, operation, params, bound, key)
        draft = replace(draft, warnings=screened.warnings)
        await self._refuse_used_names(operation, bound, draft)
        return draft, self.attempts(operation, bound, draft)

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
        *,
        batch_id: str,
        item: str,
        folder: str | None,
    ) -> None:
        """Add a job to a running batch; calling it again, in any process, has no effect."""
        params = validate(operation.params, arguments, admitted=self._context.admitted)
        given = cast("StartParams", params)
        job, attempts = await self.rows(provider, operation, given, Nobody(), {})
        job = replace(
            job,
            batch_id=batch_id,
            item=item,
            folder=folder,
            idempotency_key=f"{batch_id}:{item}",
        )
        await self._insert(job, attempts)

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
            remembered = await recall(store, self._owner, provider.name, opened)
        settings = context.clients[provider.name].settings
        return cast("StartParams", operation.bind(params, settings, remembered))

    async def _refuse_used_names(
        self, operation: JobOperation, params: StartParams, draft: Job
    ) -> None:
        """Refuse names that were used before, unless the intent is the same."""
        if not isinstance(operation, FanOutOperation) or draft.provider_job_id is None:
            return
        store = self._context.registry.store
        if await store.foresee(draft, identical_since=self.identical_since()) is None:
            await self.refuse_sent_names(operation, params, draft)

    async def refuse_sent_names(
        self, operation: JobOperation, params: StartParams, draft: Job
    ) -> None:
        """Refuse items that were sent before to the same open request: results have their names."""
        store, opened = self._context.registry.store, draft.provider_job_id
        if not isinstance(operation, FanOutOperation) or opened is None:
            return
        used: set[str | None] = set()
        beside = Query(
            owner=self._owner, provider=draft.provider, provider_job_id=opened, limit=MOST_BESIDE
        )
        for job in await store.list(beside):
            attempts = await store.attempts(job.job_id)
            used.update(each.item for each in attempts if each.state != "refused")
        if again := [name for name in operation.items(params) if name in used]:
            raise call_error(
                "invalid_argument",
                f"{', '.join(again[:MOST_NAMED])}: already sent to {opened}",
                "give names that are new there",
            )

    def _need_limits(self, provider: Provider, key: Key) -> None:
        """Refuse to start while the limits cannot be shared with the other servers."""
        trouble = self._context.clients[provider.name].limiter(key.fingerprint).trouble
        if trouble is not None:
            reason = trouble.strerror or type(trouble).__name__
            said = f"the limits of {provider.title} cannot be shared between servers: {reason}"
            raise JournalError(said)

    def _draft(
        self,
        provider: Provider,
        operation: JobOperation,
        params: StartParams,
        bound: StartParams,
        key: Key,
    ) -> Job:
        """Return the row of a new job; it is not written yet."""
        context, now = self._context, self._context.clock()
        intent = digest(self._owner, operation.name, canonical(canonical_arguments(params)))
        client = context.clients[provider.name]
        return Job(
            job_id=f"{provider.name}_{context.new_id()}",
            owner=self._owner,
            provider=provider.name,
            operation=operation.name,
            status="queued",
            arguments=canonical_arguments(bound),
            intent=intent,
            fingerprint=key.fingerprint,
            created_at=now,
            updated_at=now,
            holder=context.registry.holder,
            idempotency_key=params.idempotency_key,
            provider_job_id=operation.opened(params)
            if isinstance(operation, FanOutOperation)
            else None,
            cost=key.charged(operation.cost(params, client.settings)),
            sandbox=client.sandbox,
        )

    def identical_since(self) -> float | None:
        """Return the time since when a completed job is returned to an identical call, if any."""
        window = self._context.settings.jobs.identical_window_seconds
        return self._context.clock() - window if window else None

    async def _question(self, provider: Provider, draft: Job, ahead: Outlook) -> str | None:
        """Return the question before a cost above the configured amount.

        None if the cost is lower, or if no new job would be started. The approval applies only to
        what the question says: a higher price or a later start needs another question.
        """
        context = self._context
        if draft.cost is None or draft.operation in context.settings.approval.never_ask:
            return None
        question = context.tariff.question(draft.operation, provider, draft.cost)
        if question is None:
            return None
        known = await context.registry.store.foresee(
            draft,
            identical_since=self.identical_since(),
            entry=context.tariff.entry(draft),
            caps=context.tariff.caps_for(draft, context.clock()),
        )
        return " ".join([question, *ahead.said]) if known is None else None

    async def _begin(self, operation: JobOperation, params: StartParams, job: Job) -> Started:
        """Write the job with its attempts, and queue it; return the existing one if there is one."""
        attempts = [] if job.asks else self.attempts(operation, params, job)
        created, live = await self._insert(job, attempts)
        if not created.made:
            return await self._again(created.job, job.intent, by_key=created.by_key)
        return Started(live, await self._beside_unknown(job))

    async def _insert(self, job: Job, attempts: list[Attempt]) -> tuple[Created, LiveJob]:
        """Write a job with its attempts in one transaction, and queue it if it is new."""
        context = self._context
        created = await context.registry.store.create(
            job,
            attempts,
            identical_since=self.identical_since(),
            entry=context.tariff.entry(job),
            caps=context.tariff.caps_for(job, context.clock()),
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

    async def _again(self, job: Job, intent: str, *, by_key: bool) -> Started:
        """Return the existing job with the same intent."""
        if by_key and job.intent != intent:
            raise call_error(
                "conflict",
                f"this idempotency_key belongs to {job.job_id}, started with other arguments",
                "leave idempotency_key out, or repeat the call with the arguments of then",
            )
        if not job.ended:
            await recover_from(self._runtime, [job.holder])
        live = await self._context.registry.get(job.job_id) or LiveJob(job)
        return Started(live, identical=not by_key)

    async def _beside_unknown(self, job: Job) -> tuple[str, ...]:
        """Return a warning if an unknown job has the same arguments; only a new key allows this."""
        if job.idempotency_key is None:
            return ()
        keyless = replace(job, idempotency_key=None)
        other = await self._context.registry.store.foresee(keyless, identical_since=None)
        if other is None:
            return ()
        return (f"{other.job_id} has the same arguments and is of unknown fate",)


def _has_left_or_waits(live: LiveJob) -> bool:
    job = live.job
    return job.status not in {"queued", "submitting"} or job.queued_for is not None
