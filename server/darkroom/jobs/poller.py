"""Asks providers for the states of jobs; every state, whatever its source, goes to `ingest`."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import CallError, Failure, JournalError, clean, failure
from darkroom.core.log import log
from darkroom.jobs import states
from darkroom.jobs.account_queue import look_wait
from darkroom.jobs.bounds import MOST_OUTPUTS, at_most, believed
from darkroom.jobs.fan_out_state import deadline, gather, last_sent, unsent
from darkroom.jobs.poll_plan import PollPlan
from darkroom.jobs.poll_timing import LONGEST_INTERVAL_SECONDS, SHORTEST_INTERVAL_SECONDS
from darkroom.jobs.state_changes import ending, going_on, is_news
from darkroom.jobs.store import Query
from darkroom.providers.client.http import LostError, NotSentError
from darkroom.providers.client.outcomes import TOO_MANY_REQUESTS, describe
from darkroom.providers.client.rate_limiter import LONGEST_PAUSE_OF_LOOKS_SECONDS
from darkroom.providers.client.resend import Backoff, newer_key
from darkroom.providers.messages import (
    UNREADABLE,
    MissingError,
    Request,
    Response,
    State,
    UnreadableError,
)
from darkroom.providers.operations import FanOutOperation

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from darkroom.core.json_types import JsonObject
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Attempt, Job
    from darkroom.jobs.outputs import OutputFiles
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.client.rate_limiter import Permit
    from darkroom.providers.credentials import Key

MOST_NOT_FOUND = 3
"""After this many 404 in a row, to the key that it was sent with, an accepted job is gone."""

MOST_WITHOUT_RESULT = 5
"""After this many answers in a row that a job has ended without a usable result, it has ended."""

NOT_FOUND = 404
FULL_SHARE = 0.8
"""A list is requested when this share of its page is waited for."""

LOOK_LATER = (
    "it may have been paid for: check it again later, the provider is asked once more each time"
)
LOOK_FAILED = Failure(
    code="internal_error",
    message="looking for its state failed in this server",
    next_step="tell the person",
    retryable=True,
)

GROUP_SECONDS = 45.0
"""While submissions wait, a poll is delayed by this time so that others can join it."""


@dataclass(slots=True)
class _Group:
    """Jobs whose polls wait to be answered together by one list."""

    since: float
    jobs: list[LiveJob] = field(default_factory=list["LiveJob"])


class Poller:
    """Polls running jobs."""

    def __init__(self, context: JobContext, outputs: OutputFiles) -> None:
        self._context = context
        self._outputs = outputs
        self._plan = PollPlan(context)
        self._groups: dict[tuple[str, str, str], _Group] = {}

    # --- the schedule ---

    def follow(self, live: LiveJob) -> None:
        """Schedule the next poll of a running job."""
        self._again(live, self._plan.next(live))

    def next_look(self, job: Job) -> int:
        """Return the seconds, rounded up, until the next poll of a job."""
        due = self._context.schedule.due(("poll", job.job_id))
        if due is None:
            if job.starts_at is not None:
                return max(1, math.ceil(job.starts_at - self._context.clock()))
            held = self._context.clients[job.provider].limiter(job.fingerprint).held("poll")
            return max(1, math.ceil(max(self._plan.estimate(job.operation).interval, held)))
        return max(1, math.ceil(due - anyio.current_time()))

    def _again(self, live: LiveJob, seconds: float) -> None:
        operation = self._context.operations[live.job.operation]
        if isinstance(operation, FanOutOperation):
            settings = self._context.clients[live.job.provider].settings
            left = deadline(operation, settings, live) - self._context.clock()
            seconds = min(seconds, max(left, operation.poll_interval_seconds))
            if unsent(live):  # its requests need the rate first; the last calls `follow`
                seconds = LONGEST_INTERVAL_SECONDS
        self._context.schedule.at(
            ("poll", live.job.job_id), anyio.current_time() + seconds, lambda: self._ask(live)
        )

    def _ask(self, live: LiveJob) -> None:
        with self._looked(live):
            self._ask_now(live)

    def _ask_now(self, live: LiveJob) -> None:
        job = live.job
        if job.status != "running":
            self._plan.forget(job)
            return
        if (wait := look_wait(self._context, live)) > 0:
            self._again(live, min(wait, LONGEST_INTERVAL_SECONDS))
            return
        limiter = self._context.clients[job.provider].limiter(job.fingerprint)
        if job.batch_id is not None and limiter.contended and unsent(live):
            self._again(live, LONGEST_INTERVAL_SECONDS)
            return
        if (early := self._plan.too_early(live)) > 0:
            self._again(live, early)
        elif self._context.operations[job.operation].state.listing is not None:
            self._ask_together(live)
        else:
            limiter.ask("poll", partial(self._spawn_poll, live))

    # --- many at once ---

    def _ask_together(self, live: LiveJob) -> None:
        """Delay a job's poll until one request can answer it together with many others."""
        key = (live.job.provider, live.job.fingerprint, live.job.operation)
        group = self._groups.setdefault(key, _Group(anyio.current_time()))
        group.jobs.append(live)
        if len(group.jobs) == 1:
            self._look_later(key)

    def _look_later(self, key: tuple[str, str, str]) -> None:
        estimate = self._plan.estimate(key[2])
        first = self._groups[key].jobs[0]
        spare = self._plan.spare_looks(first, self._context.clock() - last_sent(first)) >= 1
        wait = SHORTEST_INTERVAL_SECONDS if spare else estimate.interval
        again = anyio.current_time() + wait
        self._context.schedule.at(("group", key), again, lambda: self._look_at_group(key))

    def _look_at_group(self, key: tuple[str, str, str]) -> None:
        group = self._groups[key]
        provider, fingerprint, name = key
        source = self._context.operations[name].state
        limiter = self._context.clients[provider].limiter(fingerprint)
        size = source.listing.size if source.listing is not None else 1
        full = len(group.jobs) >= size * FULL_SHARE
        waited = anyio.current_time() - group.since
        if limiter.contended and not full and waited < GROUP_SECONDS:
            self._look_later(key)
            return
        jobs = self._groups.pop(key).jobs
        if len(jobs) == 1:
            limiter.ask("poll", partial(self._spawn_poll, jobs[0]))
        else:
            limiter.ask("poll", lambda permit: self._context.spawn(self._poll_list, jobs, permit))

    async def _poll_list(self, jobs: list[LiveJob], permit: Permit) -> None:
        """Request the states of many jobs; jobs that the list does not contain are polled alone."""
        first = jobs[0].job
        client = self._context.clients[first.provider]
        listing = self._context.operations[first.operation].state.listing
        rows: Mapping[str, JsonObject] = {}
        response: Response | None = None
        key: Key | None = None
        try:
            if listing is not None:
                request = Request(method="GET", path=listing.path)
                key = self._key(first)
                response = await client.http_client.send(request, key, once=False)
                if response.status == TOO_MANY_REQUESTS:
                    error = describe(client.provider, response)
                    wait = error.retry_after_seconds or self._backoff(jobs[0])
                    client.limiter(first.fingerprint).hold("poll", wait)
                if self._asked_with_newer_key(jobs, response, key):
                    return
                rows = listing.rows(response) if response.ok else {}
        except (CallError, NotSentError, LostError):
            pass  # each is polled alone
        except Exception as error:  # noqa: BLE001 -- a reader may raise anything; as above
            log.error("a list could not be read: %s", type(error).__name__)
        finally:
            permit.done()
        for live in jobs:
            if live.job.status != "running":
                continue
            row = rows.get(live.job.provider_job_id or "")
            with self._looked(live):  # an error in one row must not affect the others
                if response is not None and key is not None and row is not None:
                    live.polls += 1
                    await self.take_in(live, replace(response, body=row), key)
                else:
                    limiter = client.limiter(live.job.fingerprint)
                    limiter.ask("poll", partial(self._spawn_poll, live))

    def _spawn_poll(self, live: LiveJob, permit: Permit) -> None:
        self._context.spawn(self._poll, live, permit)

    # --- one question ---

    @contextmanager
    def _looked(self, live: LiveJob) -> Generator[None]:
        """Poll a job, and schedule its next poll whatever happens."""
        try:
            yield
        except CallError as error:
            if not isinstance(error, JournalError):  # the provider gave another answer than 404
                live.not_found = 0
            self._trouble(live, error.failure)
        except Exception as error:  # noqa: BLE001 -- a job that is paid for is never given up
            log.error("looking for %s failed: %s", live.job.job_id, type(error).__name__)
            if not live.job.ended:
                self._trouble(live, LOOK_FAILED)

    async def _poll(self, live: LiveJob, permit: Permit) -> None:
        with self._looked(live):
            try:
                if live.job.status != "running":
                    return
                key = self._key(live.job)
                live.polls += 1
                client = self._context.clients[live.job.provider]
                source = self._context.operations[live.job.operation].state
                response = await states.look(client, states.request_for(source, live.job), key)
            finally:
                permit.done()
            if not self._asked_with_newer_key([live], response, key):
                await self.take_in(live, response, key)

    def _asked_with_newer_key(self, jobs: Sequence[LiveJob], response: Response, key: Key) -> bool:
        """Poll the jobs again with the new key, if the provider refused a key that was replaced."""
        if response.ok or not jobs:
            return False
        provider = self._context.clients[jobs[0].job.provider].provider
        if newer_key(self._context.credentials, key, describe(provider, response)) is None:
            return False
        for live in jobs:
            self._again(live, 0.0)
        return True

    def _key(self, job: Job) -> Key:
        client = self._context.clients[job.provider]
        operation = self._context.operations[job.operation]
        return self._context.credentials.key(client.provider, operation.credential, owner=job.owner)

    async def take_in(self, live: LiveJob, response: Response, key: Key) -> None:
        """Read the response to a poll that was made with ``key``, and ingest the state."""
        client = self._context.clients[live.job.provider]
        operation = self._context.operations[live.job.operation]
        try:
            state = await states.read(client, operation, live.job, response, key)
        except states.NotOkError as error:
            await self._not_ok(live, error.response, key)
            return
        except MissingError:
            gone = failure("not_found", client.provider.title)
            await self._not_found(live, gone, key)
            return
        except UNREADABLE as error:
            live.not_found = 0
            ended = error.ended if isinstance(error, UnreadableError) else None
            if ended is None:
                live.unreadable = 0
                self._trouble(live, failure("bad_response", client.provider.title))
                return
            nothing = f"{client.provider.title} says that it is done, and gives no result"
            state = replace(ended, warnings=(*ended.warnings, nothing))
            await self._take_in_without_result(live, state)
        else:
            live.not_found = 0
            await self._take_in_state(live, state)

    async def _take_in_state(self, live: LiveJob, state: State) -> None:
        """Ingest a state if its results can be used."""
        mended = self._context.clients[live.job.provider].mended(state)
        if mended.status == "completed" and len(mended.warnings) > len(state.warnings):
            await self._take_in_without_result(live, mended)
            return
        await self.ingest(live, mended)
        live.failed_polls = live.unreadable = 0
        live.trouble = None

    async def _take_in_without_result(self, live: LiveJob, state: State) -> None:
        """Poll again if a result cannot be used; ingest the end once it is certain."""
        live.unreadable += 1
        if live.unreadable < MOST_WITHOUT_RESULT:
            title = self._context.clients[live.job.provider].provider.title
            self._trouble(live, failure("bad_response", title))
            return
        await self.ingest(live, replace(state, concluded=True))
        live.failed_polls = live.unreadable = 0
        live.trouble = None

    async def _not_ok(self, live: LiveJob, response: Response, key: Key) -> None:
        client = self._context.clients[live.job.provider]
        error = describe(client.provider, response)
        if response.status == TOO_MANY_REQUESTS:
            seconds = error.retry_after_seconds or self._backoff(live)
            client.limiter(live.job.fingerprint).hold("poll", seconds)
        if response.status == NOT_FOUND:
            await self._not_found(live, error, key)
        else:
            live.not_found = 0
            self._trouble(live, error)

    async def _not_found(self, live: LiveJob, error: Failure, key: Key) -> None:
        self._trouble(live, error)
        # A key of another account cannot see the job, so that its 404 proves nothing.
        live.not_found = live.not_found + 1 if key.fingerprint == live.job.fingerprint else 0
        if live.not_found >= MOST_NOT_FOUND:
            error = replace(error, next_step=LOOK_LATER)
            await self.ingest(live, State(status="failed", failure=error, concluded=True))

    def _backoff(self, live: LiveJob) -> float:
        interval = self._plan.estimate(live.job.operation).interval
        return Backoff(first=interval, longest=LONGEST_INTERVAL_SECONDS).wait(live.failed_polls + 1)

    def _trouble(self, live: LiveJob, error: Failure) -> None:
        """Leave the job unchanged, remember why the poll failed, and poll less often."""
        live.failed_polls += 1
        live.trouble = error.message
        wait = self._backoff(live)
        if not error.retryable:
            wait = LONGEST_INTERVAL_SECONDS
        asked = min(error.retry_after_seconds or 0.0, LONGEST_PAUSE_OF_LOOKS_SECONDS)
        self._again(live, max(wait, asked))
        live.wake()

    # --- taking in ---

    async def ingest(self, live: LiveJob, state: State) -> None:
        """Apply a provider's state to a job: end the job, or schedule its next poll."""
        job, state = live.job, believed(state, self._context.clock())
        if state.provider_status != job.provider_status:
            state = replace(state, provider_status=clean(state.provider_status) or None)
        operation = self._context.operations[job.operation]
        state = self._context.clients[job.provider].mended(state)
        adopted: Sequence[Attempt] = ()
        if isinstance(operation, FanOutOperation):
            client = self._context.clients[job.provider]
            state, adopted = gather(
                operation,
                client.provider,
                client.settings,
                live,
                state,
                self._context.clock(),
                alone=bool(state.outputs) and await self._alone(job),
            )
            if state.status == job.status == "unknown":
                return
        else:
            state = at_most(state, MOST_OUTPUTS)
        if job.ended and not is_news(job, state):
            return
        now = self._context.clock()
        if state.status == "running":
            live.missed_at = self._context.clock() - last_sent(live)
            changed = (
                state.provider_status != job.provider_status
                or state.progress not in {None, job.progress}
                or states.merged(job, state.details) != job.details
            )
            if changed or job.status != "running" or adopted:
                holder = self._context.registry.holder
                await self._context.registry.update(
                    live,
                    lambda job: going_on(job, state, at=now, polls=live.polls, holder=holder),
                    adopted,
                )
            self.follow(live)
            return
        self._context.schedule.cancel(("poll", job.job_id))
        live.fetching = state.status == "completed" and self._outputs.wanted(state.outputs)
        try:
            await self._context.registry.update(
                live, lambda job: ending(job, state, at=now, polls=live.polls), adopted
            )
        except BaseException:
            live.fetching = False
            self.follow(live)
            raise
        self._plan.forget(job)
        client = self._context.clients[job.provider]
        client.limiter(job.fingerprint).release(job.job_id)
        if live.job.submitted_at is not None and state.status == "completed":
            age = self._context.clock() - last_sent(live)
            self._plan.estimate(job.operation).observe(age, live.missed_at)
        if live.fetching:
            self._context.spawn(self._outputs.collect, live)

    async def _alone(self, job: Job) -> bool:
        """Tell whether no other job here has results under the same id at the provider."""
        beside = Query(
            owner=job.owner, provider=job.provider, provider_job_id=job.provider_job_id, limit=2
        )
        return all(
            each.job_id == job.job_id for each in await self._context.registry.store.list(beside)
        )

    async def look_again(self, live: LiveJob) -> None:
        """Ask once more about a job of unknown fate, or one whose end is only our conclusion."""
        job, now = live.job, self._context.clock()
        if job.provider_job_id is None or not (job.status == "unknown" or job.concluded):
            return
        if live.looked_at is not None and now - live.looked_at < LONGEST_INTERVAL_SECONDS:
            return
        live.looked_at = now
        operation = self._context.operations[job.operation]
        await live.load_from(self._context.registry.store)
        client = self._context.clients[job.provider]
        try:
            key = self._key(job)
            request = states.request_for(operation.state, job)
            response = await client.read(request, key, kind="poll")
        except CallError:
            return  # it stays as it is
        if response.ok:
            with self._looked(live):
                await self.take_in(live, response, key)
