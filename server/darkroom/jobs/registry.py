"""The jobs of this process in memory: live jobs, and ended jobs that were used recently.

Every change goes through `Registry.update`, in this order: a compare-and-set write to the store,
then memory, then the waiting tasks are woken. All other jobs, including those of other processes,
are read from the store.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import anyio

from darkroom.core.errors import Stale
from darkroom.jobs.spending import booked_at, day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from darkroom.core.errors import Failure
    from darkroom.jobs.model import Attempt, AttemptState, Job
    from darkroom.jobs.spending import Cap, Entry, Tariff
    from darkroom.jobs.store import Share, Store
    from darkroom.providers.values import Cost

ENDED_KEPT = 256
"""Number of ended jobs in memory; the least recently used are dropped."""

LOOK_SECONDS = 0.2
"""How often a wait checks whether another process has changed its job."""

MOST_CONFLICTS = 20


class LiveJob:
    """A job in memory, with what this process knows and does about it."""

    __slots__ = (
        "_changed",
        "ahead",
        "attempt",
        "cancelling",
        "failed_polls",
        "fetching",
        "items",
        "job",
        "looked_at",
        "missed_at",
        "not_found",
        "polls",
        "refusal",
        "seen",
        "trouble",
        "unreadable",
        "unwritten",
    )

    def __init__(self, job: Job) -> None:
        self.job = job
        self.fetching = False
        self.trouble: str | None = None
        """Why the last poll failed, as text; None if it did not."""
        self.failed_polls = 0
        self.not_found = 0
        """How many times in a row the provider answered 404 to the job's own key."""
        self.unreadable = 0
        """How many times in a row the provider said that the job has ended, without its result."""
        self.polls = job.polls
        """Number of polls."""

        self.missed_at: float | None = None
        """The age (seconds) at which a poll last found the job not ended."""

        self.looked_at: float | None = None
        """When the job was last polled after it had become unknown."""

        self.attempt: Attempt | None = None
        """The attempt that starts the job, while the job has not ended."""
        self.items: dict[str, Attempt] | None = None
        """The attempts of a job of many requests, by item."""
        self.ahead = False
        """The journal could not be written, so that memory is newer than the journal."""
        self.cancelling = False
        """This process is cancelling the job."""
        self.refusal: Failure | None = None
        """Why the provider did not cancel it."""
        self.unwritten: tuple[Attempt, ...] = ()
        """Attempts that could not be written; they are written with the next change."""
        self.seen = 0
        """Number of writes by other processes when the job was last compared with its row."""
        self._changed: anyio.Event | None = None

    @property
    def settled(self) -> bool:
        """Tell whether a wait for this job is over."""
        return (self.job.ended or self.job.status == "unknown") and not self.fetching

    def load(self, attempts: Sequence[Attempt]) -> None:
        """Take the job's attempts, in the order in which they were made."""
        self.attempt = next((a for a in reversed(attempts) if a.item is None), None)
        self.items = {a.item: a for a in attempts if a.item is not None} or None

    async def load_from(self, store: Store) -> None:
        """Read the attempts of a job that another process sent, if they are not known here."""
        if not self.attempts():
            self.load(await store.attempts(self.job.owner, self.job.job_id))

    def attempts(self) -> list[Attempt]:
        """Return the newest version of the attempt that starts the job and of each item."""
        return [
            *([self.attempt] if self.attempt is not None else []),
            *(self.items or {}).values(),
        ]

    def keep(self, attempt: Attempt) -> None:
        """Take the next version of an attempt of the job, or the one that follows it."""
        if attempt.item is None:
            self.attempt = attempt
        elif self.items is not None:
            self.items[attempt.item] = attempt

    def answered(self, at: float, state: AttemptState, **changes: Any) -> list[Attempt]:
        """Settle the attempt that starts the job; return what has to be written, if there is one.

        ``at`` is when its answer came, or the person settled it (seconds since the epoch).
        """
        if self.attempt is None:
            return []
        self.attempt = self.attempt.next(state=state, answered_at=at, **changes)
        return [self.attempt]

    def wake(self) -> None:
        """Wake everything that waits for a change of the job."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def change(self) -> None:
        """Wait until something changes."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()


class Registry:
    """Live jobs by id, with the store behind them."""

    def __init__(self, store: Store, holder: str, tariff: Tariff) -> None:
        self.store = store
        self.holder = holder
        self._tariff = tariff
        self._live: dict[str, LiveJob] = {}
        self._ended: OrderedDict[str, LiveJob] = OrderedDict()
        self.watchers: list[Callable[[Job], None]] = []
        """Called with every job that this process has changed."""
        self._others_wrote = 0
        self._looked_at = -LOOK_SECONDS

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[LiveJob]:
        return iter(self._live.values())

    def add(self, job: Job) -> LiveJob:
        """Keep a job in memory."""
        known = self._live.get(job.job_id) or self._ended.get(job.job_id)
        if known is not None:
            self._take_in(known, job)
            return known
        live = LiveJob(job)
        self._place(live)
        return live

    def _place(self, live: LiveJob) -> None:
        job_id = live.job.job_id
        if live.job.ended and not live.fetching:
            self._live.pop(job_id, None)
            self._ended[job_id] = live
            self._ended.move_to_end(job_id)
            while len(self._ended) > ENDED_KEPT:
                self._ended.popitem(last=False)
            return
        self._ended.pop(job_id, None)
        if live.fetching or live.ahead or live.job.holder in {self.holder, None}:
            self._live[job_id] = live
        else:  # it belongs to another process; waits read its row
            self._live.pop(job_id, None)

    def known(self, job_id: str) -> LiveJob | None:
        """Return a job that is in memory."""
        return self._live.get(job_id) or self._ended.get(job_id)

    def latest(self, job: Job) -> Job:
        """Return a job as this process knows it, which may be newer than its row."""
        live = self.known(job.job_id)
        return live.job if live is not None and live.job.version >= job.version else job

    async def get(self, owner: str, job_id: str) -> LiveJob | None:
        """Return an owner's job from memory or the store, with what other processes have written.

        A job of another owner is as good as unknown.
        """
        live = self.known(job_id)
        if live is not None and live.job.owner != owner:
            return None
        if live is not None and live.job.ended and not self._may_change(live.job):
            return live
        if live is not None and (live.job.ended or live.job.holder == self.holder):
            await self._look()
            await self._catch_up(live)
            if live.job.ended or live.job.holder == self.holder:
                return live
        job = await self.store.job(owner, job_id)
        if job is None:
            return live
        if job.holder == self.holder or job.ended:
            return self.add(job)
        return LiveJob(job)

    def _may_change(self, job: Job) -> bool:
        """Tell whether another process may still change an ended job: its files, or a retry."""
        return job.holder != self.holder or job.batch_id is not None

    def fetched_elsewhere(self, live: LiveJob) -> bool:
        """Tell whether another process may still be downloading files of an ended job."""
        job = live.job
        return job.holder not in {self.holder, None} and any(
            output.file is None and output.fetch_error is None for output in job.outputs
        )

    async def refresh(self, live: LiveJob) -> None:
        """Take in what another process may have written about a job of ours."""
        await self._look()
        await self._catch_up(live)

    async def others_wrote(self) -> int:
        """Return how many times writes by other processes were noticed, including now."""
        await self._look()
        return self._others_wrote

    async def _look(self) -> None:
        """Notice whether another process has written."""
        self._looked_at = anyio.current_time()
        if await self.store.changed():
            self._others_wrote += 1

    async def _catch_up(self, live: LiveJob) -> None:
        """Read what another process may have written about our job, for example that it is settled."""
        if live.seen == self._others_wrote:
            return
        seen = self._others_wrote
        job = await self.store.job(live.job.owner, live.job.job_id)
        live.seen = seen
        if job is not None:
            self._take_in(live, job)

    def _take_in(self, live: LiveJob, job: Job) -> None:
        """Use a row if it is newer; watchers are told as for our own changes."""
        if job.version <= live.job.version:
            return
        ours = live.job.holder == self.holder
        live.job = job
        self._place(live)
        if ours:
            for watcher in self.watchers:
                watcher(job)
        live.wake()

    async def update(
        self,
        live: LiveJob,
        change: Callable[[Job], Job | None],
        attempts: Sequence[Attempt] = (),
        *,
        caps: Sequence[Cap] = (),
        shares: Sequence[Share] = (),
    ) -> Job:
        """Write the job that ``change`` returns, with the attempts, and wake the waiting tasks.

        If another process has written meanwhile, ``change`` is called again with the newer row. If
        it returns None, the job stays as it is, and only the attempts are written. ``caps``
        and ``shares`` are as in `Store.write`.
        """
        for _ in range(MOST_CONFLICTS):
            job = live.job
            new = change(job)
            if new is None and live.ahead:
                new = job.next()
            owed = live.unwritten
            try:
                if new is not None or attempts:
                    entry = self._settled(job, new, late=live.ahead)
                    await self.store.write(
                        new,
                        [*owed, *attempts],
                        entry=entry,
                        caps=caps,
                        shares=shares,
                    )
            except Stale:
                fresh = await self.store.job(job.owner, job.job_id)
                if fresh is None:
                    raise
                self._take_in(live, fresh)
                continue
            if new is not None and new.version > live.job.version:
                live.job = new
                live.ahead = False
                live.unwritten = live.unwritten[len(owed) :]
                self._place(live)
                for watcher in self.watchers:
                    watcher(new)
            live.wake()
            return live.job
        raise Stale(live.job.job_id)

    def _settled(self, old: Job, new: Job | None, *, late: bool) -> Entry | None:
        """Return the job's ledger entry if this or an earlier change creates or settles it."""
        if new is None or (_booked(new) == _booked(old) and not late):
            return None
        return self._tariff.entry(new)

    def touch(self, live: LiveJob) -> None:
        """Move a job between live and ended after ``fetching`` changed; wake the waiting tasks."""
        self._place(live)
        live.wake()

    async def wait(
        self, live: LiveJob, seconds: float, *, until: Callable[[LiveJob], bool]
    ) -> LiveJob:
        """Wait until ``until(live)`` is true or the time is over; every change is noticed at once."""
        with anyio.move_on_after(seconds):
            while not until(live):
                if live.job.ended or live.job.holder in {self.holder, None}:
                    with anyio.move_on_after(LOOK_SECONDS):
                        await live.change()
                        continue
                    if anyio.current_time() - self._looked_at >= LOOK_SECONDS / 2:
                        await self._look()
                else:
                    await anyio.sleep(LOOK_SECONDS)
                    live.seen = -1
                await self._catch_up(live)
        return live


def _booked(job: Job) -> tuple[bool, bool, Cost | None, str]:
    """Return the fields of a job that its ledger entry depends on."""
    return job.ended, job.unapproved, job.cost, day(booked_at(job))
