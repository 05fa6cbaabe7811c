"""The protocol of a store of jobs and attempts.

`darkroom.jobs.storage.memory` and `darkroom.jobs.storage.sqlite` implement it and pass the same
tests. A `Storage` is a store together with the two other things that its processes share: which of
them are alive (`Liveness`), and what they have used of a credential's limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from darkroom.core.errors import DarkroomError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from darkroom.jobs.model import Attempt, AttemptState, Intent, Job
    from darkroom.jobs.spending import Cap, CapReached, Entry, Sum
    from darkroom.providers.client.rate_limiter import LimitsState
    from darkroom.providers.provider import Limits
    from darkroom.providers.values import Status

UNDER_WAY: frozenset[Status] = frozenset({"queued", "submitting", "running"})
"""In these states an identical call returns the existing job, whatever its age."""

NEVER_RETURNED: frozenset[Status] = frozenset({"failed", "blocked", "cancelled"})
"""In these states an identical call starts a new job."""

NO_VERDICT: frozenset[AttemptState] = frozenset({"sent", "unknown"})
"""States of an attempt that the provider may have accepted, though it never told us."""

MOST_UNKNOWN = 20
"""How many unknown jobs a start is compared with."""

ACCEPTED: frozenset[Status] = frozenset({"submitting", "running", "completed", "unknown"})
"""States of a job that was or may have been accepted; others count if they have a provider id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which jobs to list: newest first, only those after the cursor ``before``."""

    owner: str
    provider: str | None = None
    statuses: frozenset[Status] | None = None
    batch_id: str | None = None
    provider_job_id: str | None = None
    limit: int = 20
    before: tuple[float, str] | None = None
    """``(created_at, job_id)`` of the last row of the page before."""


class Intended(Protocol):
    """What tells whether an intent is here already: a job, or what is to become one."""

    @property
    def owner(self) -> str:
        """Whose it is."""
        ...

    @property
    def intent(self) -> str:
        """Hash of owner, operation and canonical arguments."""
        ...

    @property
    def idempotency_key(self) -> str | None:
        """The caller's own name for it."""
        ...

    @property
    def batch_id(self) -> str | None:
        """The batch that it is an item of."""
        ...


@dataclass(frozen=True, slots=True)
class Usage:
    """How many jobs of an operation there are.

    ``waiting`` have not been sent yet, without those that ask the person first. ``accepted`` since
    each of the times asked for were accepted, or may have been: by ``submitted_at``, or
    ``created_at`` while there is none. ``outcomes`` are the statuses of the jobs that `Sent` names,
    the newest first.
    """

    waiting: int
    accepted: tuple[int, ...]
    outcomes: tuple[Status, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """Jobs of these operations that were sent since a time."""

    operations: tuple[str, ...]
    since: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a start meets, looked up at once.

    ``known`` is the job that `Store.create` would return instead of a new one. ``doubtful``: with an
    idempotency key, the job that stands in the way of the same call without one: its fate is not
    known. ``reached``: the error that `Store.create` would raise for a cap on spending. ``asks``:
    too much would be spent without asking the person. ``unknown``: the newest jobs of the same
    owner and operation that are ``unknown``, at most `MOST_UNKNOWN`.
    """

    known: Job | None
    doubtful: Job | None
    reached: CapReached | None
    usage: Usage
    asks: bool = False
    unknown: Sequence[Job] = ()


@dataclass(frozen=True, slots=True)
class Created:
    """The job for an intent, and whether it was created by this call."""

    job: Job
    made: bool


@dataclass(frozen=True, slots=True)
class Child:
    """A job of a batch, with its attempts and its entry in the ledger."""

    job: Job
    attempts: Sequence[Attempt]
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Horizon:
    """What may be deleted: jobs that ended before ``ended``, and ledger entries before both times.

    ``window`` is the beginning of the longest period that a cap or a quota counts. Jobs of the
    operations ``counted`` that count in it are kept. So are entries whose job is kept, and entries
    whose holder ``lives``, because caps per process have no period.
    """

    ended: float
    window: float
    counted: frozenset[str] = frozenset()
    lives: Callable[[str], bool] = field(default=lambda _: False)

    @property
    def entries(self) -> float:
        """Entries before this time no longer count in any cap or quota."""
        return min(self.ended, self.window)


@dataclass(frozen=True, slots=True)
class Share:
    """What a provider takes of an operation: ``most`` jobs that count since a time."""

    operation: str
    since: float
    most: int


class NoShareError(DarkroomError):
    """A provider takes no more of an operation now; another process was faster."""


class Store(Protocol):
    """Durable rows with compare-and-set writes.

    Whoever reads for a person names the owner; a row of another owner is not found. What names no
    owner is for the process as a whole: taking over, deleting, looking who is alive.

    Every method may be called from any task; a write that returned is durable. A row is replaced
    only by its next version (``version + 1``): otherwise `errors.Stale`, and nothing is written.
    """

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
        """Insert a job with its first attempts, unless a job with the same intent is returned.

        With an ``idempotency_key``, the owner's job with the same key is returned. With a key that
        no job has, and ``by_key_only``, nothing else is looked for. Otherwise a job with the same
        intent is returned, unless it is in `NEVER_RETURNED`:

        - always, if a request of it is unknown: the job is ``unknown``, has an attempt in
          `NO_VERDICT`, or is a batch with such a job;
        - if it is `UNDER_WAY`, whatever its age, unless ``identical_since`` is None;
        - if it is ``completed`` and ended at ``identical_since`` or later (None: never).

        This does not apply to items of a batch.
        """
        ...

    async def create_all(
        self,
        parent: Job,
        children: Sequence[Child],
        *,
        identical_since: float | None,
        by_key_only: bool = False,
        totals: Sequence[tuple[Entry, Sequence[Cap]]],
    ) -> Created:
        """Insert a batch with all its jobs at once, unless a batch with its intent is returned.

        ``totals`` are the sums that all jobs need, and the caps that apply to them.
        """
        ...

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
        """Look up everything that decides about a start; nothing is written.

        ``used_since``: the beginnings of the quota's periods; where there are none, nothing is
        counted.
        """
        ...

    async def identical(
        self, intended: Intended, *, since: float | None, by_key_only: bool = False
    ) -> Job | None:
        """Return the job that `create` would return instead of a new one."""
        ...

    async def reserve(self, entry: Entry, caps: Sequence[Cap]) -> None:
        """Insert a ledger entry that belongs to no job, unless it exceeds a cap."""
        ...

    async def spent(self, owner: str, since: float) -> list[Sum]:
        """Return what was reserved and spent since a time, by provider, unit and UTC day."""
        ...

    async def used(self, owner: str, cap: Cap) -> float:
        """Return how much of a cap is used."""
        ...

    async def write(
        self,
        job: Job | None,
        attempts: Sequence[Attempt] = (),
        *,
        entry: Entry | None = None,
        caps: Sequence[Cap] = (),
        shares: Sequence[Share] = (),
    ) -> None:
        """Replace rows by their next versions, all or none; version 1 of an attempt is inserted.

        ``caps`` are those that the entry must not pass where it is booked now (a job that is run
        again, or sent on another day); what is booked under its id already is not counted beside
        it. ``shares`` are what the job must find free.

        Raises
        ------
        CapReached, NoShareError: nothing was written.
        """
        ...

    async def job(self, owner: str, job_id: str) -> Job | None:
        """Return the owner's job with this id of ours."""
        ...

    async def attempts(self, owner: str, job_id: str) -> list[Attempt]:
        """Return the attempts of the owner's job, oldest first."""
        ...

    async def attempt(self, owner: str, attempt_id: str) -> Attempt | None:
        """Return the owner's attempt with this id."""
        ...

    async def owners(self) -> list[str]:
        """Return everybody who owns a job, in order."""
        ...

    async def find(self, owner: str, provider: str, provider_job_id: str) -> Job | None:
        """Return the owner's job with this id at the provider."""
        ...

    async def taken(self, owner: str, provider: str, provider_job_id: str) -> bool:
        """Tell whether somebody else than the owner has a job with this id at the provider.

        People who share a key share what the provider shows for it: a job that is another person's
        here must not become this one's.
        """
        ...

    async def list(self, query: Query) -> list[Job]:
        """Return the jobs that match, newest first."""
        ...

    async def claim(self, holder: str, is_dead: Callable[[str], bool]) -> list[Job]:
        """Take over every job that has not ended and whose holder is dead or missing.

        Returns the rows, which are new versions that name ``holder``.
        """
        ...

    async def holders(self) -> set[str]:
        """Return the holders of jobs that have not ended."""
        ...

    async def unsettled(self, is_dead: Callable[[str], bool]) -> list[Attempt]:
        """Return the attempts without a job, in state ``prepared`` or ``sent``, of dead holders.

        An attempt's holder is the one that its last writer's store was made for.
        """
        ...

    async def lost_calls(self) -> list[Attempt]:
        """Return the attempts without a job of which nobody knows what became, oldest first."""
        ...

    async def usage(
        self, owner: str, operation: str, since: Sequence[float], *, sent: Sent | None = None
    ) -> Usage:
        """Count the jobs of an operation, and read the outcomes of what was sent; see `Usage`."""
        ...

    async def sent_items(self, owner: str, provider: str, provider_job_id: str) -> set[str]:
        """Return the names of items that were or may be sent to what the provider gave this id."""
        ...

    async def changed(self) -> bool:
        """Tell whether another process has written since the last call of this method."""
        ...

    async def prune(self, horizon: Horizon) -> int:
        """Delete the jobs, attempts and ledger entries before the horizon.

        Returns the number of deleted jobs.
        """
        ...

    async def forgotten(self) -> float | None:
        """Return the time before which the ledger is incomplete; None: it is complete."""
        ...

    async def close(self) -> None:
        """Close files and threads."""
        ...


class Liveness(Protocol):
    """Tells which of the processes that write to a store are alive.

    It is opened before this process writes its first row and released after the last one. From
    opening to `release`, or to its death, a process counts as alive for all others.
    """

    @property
    def holder(self) -> str:
        """The name under which this process holds rows."""
        ...

    @property
    def shared(self) -> bool:
        """Whether there can be other processes; if not, dead ones are not looked for."""
        ...

    @property
    def beat_seconds(self) -> float | None:
        """Interval of `beat`; None: once, after the jobs of dead processes were taken over."""
        ...

    def dead(self, holder: str) -> bool:
        """Tell whether a holder's process is dead. If that is not certain, it counts as alive.

        It is called from any thread, also within a transaction of the store, so it must not wait
        for a transaction.
        """
        ...

    async def beat(self) -> None:
        """Report that this process is alive, and remove what dead processes have left.

        Raises
        ------
        JournalError: that is not possible now; it is called again later.
        """
        ...

    async def release(self) -> None:
        """Report the end of this process; from now on it counts as dead."""
        ...


class Alone:
    """The `Liveness` of a store that only this process can use; all other holders are dead."""

    shared = False
    beat_seconds = None

    def __init__(self, holder: str) -> None:
        self.holder = holder

    def dead(self, holder: str) -> bool:
        """Tell whether the holder is not this process."""
        return holder != self.holder

    async def beat(self) -> None:
        """Do nothing: nobody is told."""

    async def release(self) -> None:
        """Do nothing: nobody is told."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A store, with the liveness and the limits that its processes share."""

    store: Store
    liveness: Liveness
    limits: Callable[[str, str, Limits], LimitsState] | None = None
    """Returns the shared state of a credential's limits, for the provider's name and the credential's
    fingerprint; None: only this process uses the limits."""
