"""A store in memory, for ``[jobs] store = "memory"`` and as a reference in tests."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from darkroom.core.errors import Stale
from darkroom.jobs.storage.ledger import MemoryLedger, look_ahead
from darkroom.jobs.store import (
    ACCEPTED,
    MOST_UNKNOWN,
    NEVER_RETURNED,
    NO_VERDICT,
    UNDER_WAY,
    Created,
    Forecast,
    NoShareError,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from darkroom.jobs.model import Attempt, Intent, Job
    from darkroom.jobs.spending import Cap, Entry, Sum
    from darkroom.jobs.store import Child, Horizon, Intended, Query, Sent, Share
    from darkroom.providers.values import Status


def _counted_at(job: Job) -> float:
    return job.created_at if job.submitted_at is None else job.submitted_at


def _age(job: Job) -> tuple[float, str]:
    return job.created_at, job.job_id


class MemoryStore:
    """A `Store` in dictionaries. ``holder`` is the holder that writes, as for the journal.

    ``began``: nothing is known about earlier times.
    """

    def __init__(
        self, *, holder: str | None = None, began: float | None = None, shared: bool = False
    ) -> None:
        self._holder = holder
        self._shared = shared
        self._began = began
        self._jobs: dict[str, Job] = {}
        self._attempts: dict[str, Attempt] = {}
        self._ledger = MemoryLedger()

    async def create(
        self,
        job: Job,
        attempts: Sequence[Attempt],
        *,
        identical_since: float | None,
        by_key_only: bool = False,
        entry: Entry | None = None,
        caps: Sequence[Cap] = (),
    ) -> Created:
        """Insert a job with its first attempts, unless its intent is here already."""
        known = self._same_intent(job, identical_since, by_key_only=by_key_only)
        if known is not None:
            return Created(known, made=False)
        if job.job_id in self._jobs:
            raise Stale(job.job_id)
        staged = self._next(attempts)
        if entry is not None:
            await self.reserve(entry, caps)
        self._attempts |= staged
        self._jobs[job.job_id] = job
        return Created(job, made=True)

    async def create_all(
        self,
        parent: Job,
        children: Sequence[Child],
        *,
        identical_since: float | None,
        by_key_only: bool = False,
        totals: Sequence[tuple[Entry, Sequence[Cap]]],
    ) -> Created:
        """Insert a batch with all its jobs at once, unless its intent is here already."""
        known = self._same_intent(parent, identical_since, by_key_only=by_key_only)
        if known is not None:
            return Created(known, made=False)
        for job in (parent, *(child.job for child in children)):
            if job.job_id in self._jobs:
                raise Stale(job.job_id)
        for total, caps in totals:
            self._ledger.check_all(total, caps)
        self._attempts |= self._next([a for child in children for a in child.attempts])
        for child in children:
            if child.entry is not None:
                self._ledger.put(child.entry)
        self._jobs |= {job.job_id: job for job in (parent, *(child.job for child in children))}
        return Created(parent, made=True)

    async def foresee(
        self,
        intended: Intent,
        *,
        identical_since: float | None,
        by_key_only: bool = False,
        entry: Entry | None,
        caps: Sequence[Cap],
        used_since: Sequence[float],
    ) -> Forecast:
        """Look up everything that decides about a start; nothing is written."""
        doubtful, reached, asks = None, None, False
        if intended.idempotency_key is not None:
            doubtful = self._same_intent(dataclasses.replace(intended, idempotency_key=None), None)
        if entry is not None:
            reached, asks = look_ahead(
                entry, caps, lambda cap: self._ledger.used(intended.owner, cap)
            )
        usage = Usage(0, ())
        if used_since:
            usage = await self.usage(intended.owner, intended.operation, used_since)
        known = self._same_intent(intended, identical_since, by_key_only=by_key_only)
        unknown = self._unknown(intended) if known is None else []
        return Forecast(known, doubtful, reached, usage, asks, unknown)

    async def identical(
        self, intended: Intended, *, since: float | None, by_key_only: bool = False
    ) -> Job | None:
        """Return the job that `create` would return instead of a new one."""
        return self._same_intent(intended, since, by_key_only=by_key_only)

    async def reserve(self, entry: Entry, caps: Sequence[Cap]) -> None:
        """Insert an entry of the ledger that belongs to no job, unless it passes a cap."""
        self._ledger.check_all(entry, caps)
        self._ledger.put(entry)

    async def spent(self, owner: str, since: float) -> list[Sum]:
        """Add up what is reserved and spent since a time, by provider, unit and UTC day."""
        return self._ledger.sums(owner, since)

    async def used(self, owner: str, cap: Cap) -> float:
        """Return how much of a cap is used."""
        return self._ledger.used(owner, cap)

    async def write(
        self,
        job: Job | None,
        attempts: Sequence[Attempt] = (),
        *,
        entry: Entry | None = None,
        caps: Sequence[Cap] = (),
        shares: Sequence[Share] = (),
    ) -> None:
        """Replace rows by their next versions, all or none."""
        if job is not None:
            stored = self._jobs.get(job.job_id)
            if stored is None or job.version != stored.version + 1:
                raise Stale(job.job_id)
            for share in shares:
                if (await self.usage(job.owner, share.operation, [share.since])).accepted[0] >= (
                    share.most
                ):
                    raise NoShareError(share.operation)
        if entry is not None:
            self._ledger.check_all(entry, caps)
        self._attempts |= self._next(attempts)
        if job is not None:
            self._jobs[job.job_id] = job
        if entry is not None:
            self._ledger.put(entry)

    async def job(self, owner: str, job_id: str) -> Job | None:
        """Return the owner's job with this id of ours."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.owner == owner else None

    async def attempts(self, owner: str, job_id: str) -> list[Attempt]:
        """Return the attempts of the owner's job, oldest first."""
        wanted = (owner, job_id)
        found = [each for each in self._attempts.values() if (each.owner, each.job_id) == wanted]
        return sorted(found, key=lambda attempt: attempt.created_at)

    async def attempt(self, owner: str, attempt_id: str) -> Attempt | None:
        """Return the owner's attempt with this id."""
        attempt = self._attempts.get(attempt_id)
        return attempt if attempt is not None and attempt.owner == owner else None

    async def owners(self) -> list[str]:
        """Return everybody who owns a job, in order."""
        return sorted({job.owner for job in self._jobs.values()})

    async def find(self, owner: str, provider: str, provider_job_id: str) -> Job | None:
        """Return the owner's job with this id at the provider, the newest if there are several."""
        found = (
            job
            for job in self._jobs.values()
            if (job.owner, job.provider, job.provider_job_id) == (owner, provider, provider_job_id)
        )
        return max(found, key=_age, default=None)

    async def taken(self, owner: str, provider: str, provider_job_id: str) -> bool:
        """Tell whether somebody else than the owner has a job with this id at the provider."""
        wanted = (provider, provider_job_id)
        return any(
            job.owner != owner and (job.provider, job.provider_job_id) == wanted
            for job in self._jobs.values()
        )

    async def list(self, query: Query) -> list[Job]:
        """Return the jobs that match, newest first."""
        found = [
            job
            for job in self._jobs.values()
            if job.owner == query.owner
            and query.provider in {None, job.provider}
            and query.batch_id in {None, job.batch_id}
            and query.provider_job_id in {None, job.provider_job_id}
            and (query.statuses is None or job.status in query.statuses)
            and (query.before is None or _age(job) < query.before)
        ]
        return sorted(found, key=_age, reverse=True)[: query.limit]

    async def claim(self, holder: str, is_dead: Callable[[str], bool]) -> list[Job]:
        """Take over every job that has not ended and whose holder is dead or nobody."""
        waiting = sorted((job for job in self._jobs.values() if not job.ended), key=_age)
        dead = {name for name in {job.holder for job in waiting} if name is None or is_dead(name)}
        taken = [job.next(holder=holder) for job in waiting if job.holder in dead]
        self._jobs |= {job.job_id: job for job in taken}
        return taken

    async def holders(self) -> set[str]:
        """Return who holds jobs that have not ended."""
        return {j.holder for j in self._jobs.values() if not j.ended and j.holder is not None}

    async def unsettled(self, is_dead: Callable[[str], bool]) -> list[Attempt]:
        """Return the attempts without a job whose fate a dead holder left open, oldest first."""
        found = [
            attempt
            for attempt in self._attempts.values()
            if attempt.job_id is None and attempt.state in {"prepared", "sent"}
        ]
        if found and self._holder is not None and not is_dead(self._holder):
            return []
        return sorted(found, key=lambda attempt: attempt.created_at)

    async def lost_calls(self) -> list[Attempt]:
        """Return the attempts without a job of which nobody knows what became, oldest first."""
        lost = [a for a in self._attempts.values() if a.job_id is None and a.state == "unknown"]
        return sorted(lost, key=lambda attempt: attempt.created_at)

    async def usage(
        self, owner: str, operation: str, since: Sequence[float], *, sent: Sent | None = None
    ) -> Usage:
        """Count the jobs of an operation, and read the outcomes of what was sent; see `Usage`."""
        jobs = [
            j
            for j in self._jobs.values()
            if j.operation == operation and (self._shared or j.owner == owner)
        ]
        taken = [j for j in jobs if j.status in ACCEPTED or j.provider_job_id is not None]
        return Usage(
            sum(job.status == "queued" and not job.asks for job in jobs),
            tuple(sum(_counted_at(job) >= time for job in taken) for time in since),
            self._outcomes(owner, sent) if sent is not None else (),
        )

    def _outcomes(self, owner: str, sent: Sent) -> tuple[Status, ...]:
        found: list[tuple[float, Status]] = [
            (job.submitted_at, job.status)
            for job in self._jobs.values()
            if (self._shared or job.owner == owner)
            and job.operation in sent.operations
            and job.submitted_at is not None
            and job.submitted_at >= sent.since
        ]
        return tuple(status for _, status in sorted(found, reverse=True))

    async def sent_items(self, owner: str, provider: str, provider_job_id: str) -> set[str]:
        """Return the names of items that were or may be sent to what the provider gave this id."""
        wanted = (owner, provider, provider_job_id)
        beside = {
            job.job_id
            for job in self._jobs.values()
            if (job.owner, job.provider, job.provider_job_id) == wanted
        }
        return {
            attempt.item
            for attempt in self._attempts.values()
            if attempt.job_id in beside and attempt.item is not None and attempt.state != "refused"
        }

    async def changed(self) -> bool:
        """Tell whether another process wrote: none can."""
        return False

    async def prune(self, horizon: Horizon) -> int:
        """Delete what is older than the horizon; return how many jobs."""
        old = {
            job.job_id
            for job in self._jobs.values()
            if job.ended and job.ended_at is not None and job.ended_at < horizon.ended
            if not (
                job.operation in horizon.counted
                and _counted_at(job) >= horizon.window
                and (job.status in ACCEPTED or job.provider_job_id is not None)
            )
        }
        self._jobs = {key: job for key, job in self._jobs.items() if key not in old}
        self._attempts = {
            key: attempt for key, attempt in self._attempts.items() if attempt.job_id not in old
        }
        self._ledger.prune(horizon, self._jobs)
        return len(old)

    async def forgotten(self) -> float | None:
        """Return the time when this store began, or before which it has deleted entries."""
        return max(
            (at for at in (self._began, self._ledger.forgotten) if at is not None), default=None
        )

    async def close(self) -> None:
        """Do nothing: there are no files."""

    def _same_intent(
        self, job: Intended, identical_since: float | None, *, by_key_only: bool = False
    ) -> Job | None:
        owned = [other for other in self._jobs.values() if other.owner == job.owner]
        if (key := job.idempotency_key) is not None:
            known = next((other for other in owned if other.idempotency_key == key), None)
            if known is not None or by_key_only:
                return known
        if job.batch_id is not None:
            return None
        same = [
            other
            for other in owned
            if other.intent == job.intent and other.status not in NEVER_RETURNED
        ]
        lost = self._of_unknown_fate() if same else frozenset[str]()
        returned = (
            other
            for other in same
            if other.job_id in lost
            or (
                identical_since is not None
                and (
                    other.status in UNDER_WAY
                    or (other.ended_at is not None and other.ended_at >= identical_since)
                )
            )
        )
        return max(returned, key=_age, default=None)

    def _unknown(self, intended: Intent) -> list[Job]:
        found = (
            job
            for job in self._jobs.values()
            if (job.owner, job.operation) == (intended.owner, intended.operation)
            and job.status == "unknown"
        )
        return sorted(found, key=_age, reverse=True)[:MOST_UNKNOWN]

    def _of_unknown_fate(self) -> frozenset[str]:
        """Return the ids of jobs with an unknown request, and of their batches."""
        sent = {each.job_id for each in self._attempts.values() if each.state in NO_VERDICT}
        jobs = [
            job
            for job in self._jobs.values()
            if job.status == "unknown" or (job.job_id in sent and job.status not in NEVER_RETURNED)
        ]
        batches = {(job.owner, job.batch_id) for job in jobs}
        return frozenset(
            {job.job_id for job in jobs}
            | {job.job_id for job in self._jobs.values() if (job.owner, job.job_id) in batches}
        )

    def _next(self, attempts: Sequence[Attempt]) -> dict[str, Attempt]:
        """Return the attempts by id; each must be the next version of the one kept."""
        staged: dict[str, Attempt] = {}
        for attempt in attempts:
            key = attempt.attempt_id
            stored = staged.get(key, self._attempts.get(key))
            if attempt.version != (1 if stored is None else stored.version + 1):
                raise Stale(key)
            staged[key] = attempt
        return staged
