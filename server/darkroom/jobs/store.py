"""Where jobs and attempts are kept: the protocol that an engine has to fulfil.

`darkroom.jobs.storage.memory` and `darkroom.jobs.storage.sqlite` do, and are held to the same tests.
With a store come the two things that its processes share beside the rows: who of them is alive
(`Liveness`), and what they have used of a credential's limits. A `Storage` is the three together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from darkroom.jobs.model import Attempt, AttemptState, Job
    from darkroom.jobs.spending import Cap, Entry, Sum
    from darkroom.providers.client.rate_limiter import LimitsState
    from darkroom.providers.provider import Limits
    from darkroom.providers.values import Status

UNDER_WAY: frozenset[Status] = frozenset({"queued", "submitting", "running"})
"""States in which an identical call gets the job that exists, whatever its age."""

NEVER_RETURNED: frozenset[Status] = frozenset({"failed", "blocked", "cancelled"})
"""States in which an identical call starts a new job."""

NO_VERDICT: frozenset[AttemptState] = frozenset({"sent", "unknown"})
"""States of an attempt that the provider may have accepted, though it never told us."""

ACCEPTED: frozenset[Status] = frozenset({"submitting", "running", "completed", "unknown"})
"""States of a job that a provider accepted or may have; others count if they have its id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which jobs to list; newest first, those after ``before`` (a cursor) only."""

    owner: str
    provider: str | None = None
    statuses: frozenset[Status] | None = None
    batch_id: str | None = None
    provider_job_id: str | None = None
    limit: int = 20
    before: tuple[float, str] | None = None
    """``(created_at, job_id)`` of the last row of the page before."""


@dataclass(frozen=True, slots=True)
class Created:
    """The job that an intent led to, and whether it was made now."""

    job: Job
    made: bool
    by_key: bool = False


@dataclass(frozen=True, slots=True)
class Child:
    """A job of a batch, with its attempts and its entry in the ledger."""

    job: Job
    attempts: Sequence[Attempt]
    entry: Entry | None


@dataclass(frozen=True, slots=True)
class Horizon:
    """What may be forgotten: jobs that ended before ``ended``, entries of the ledger before both.

    ``window`` is when the longest window began that a cap or a quota counts in. Jobs of the
    operations ``counted`` that count in it stay, and so do entries whose job is still here, or whose
    holder ``lives``: caps per process have no window.
    """

    ended: float
    window: float
    counted: frozenset[str] = frozenset()
    lives: Callable[[str], bool] = field(default=lambda _: False)

    @property
    def entries(self) -> float:
        """Before this an entry counts nowhere any more."""
        return min(self.ended, self.window)


class Store(Protocol):
    """Durable rows with compare-and-set writes.

    Every method may be called from any task; a write that returned is durable. A row is replaced
    only by its next version (``version + 1``): otherwise `errors.Stale`, and nothing is written.
    """

    async def create(
        self,
        job: Job,
        attempts: Sequence[Attempt],
        *,
        identical_since: float | None,
        entry: Entry | None = None,
        caps: Sequence[Cap] = (),
    ) -> Created:
        """Insert a job with its first attempts, unless its intent is here already.

        With an ``idempotency_key``, a job of this owner with the same key is returned. Without
        one, a job of the same intent is, unless it is in `NEVER_RETURNED`:

        - always where the fate of something sent is not known: it is ``unknown``, has an attempt
          in `NO_VERDICT`, or is a batch that has such a job;
        - whatever its age where it is `UNDER_WAY`, unless ``identical_since`` is None;
        - where it is ``completed`` and ended at ``identical_since`` or later (None: never).

        Items of a batch are exempt.
        """
        ...

    async def create_all(
        self,
        parent: Job,
        children: Sequence[Child],
        *,
        identical_since: float | None,
        totals: Sequence[tuple[Entry, Sequence[Cap]]],
    ) -> Created:
        """Insert a batch with all its jobs at once, unless its intent is here already.

        ``totals`` are what all of them need together, and the caps that apply to it.
        """
        ...

    async def foresee(
        self,
        job: Job,
        *,
        identical_since: float | None,
        entry: Entry | None = None,
        caps: Sequence[Cap] = (),
    ) -> Job | None:
        """Return the job that `create` would return instead of a new one; raise what it would."""
        ...

    async def reserve(self, entry: Entry, caps: Sequence[Cap]) -> None:
        """Insert an entry of the ledger that belongs to no job, unless it passes a cap."""
        ...

    async def spent(self, owner: str, since: float) -> list[Sum]:
        """Add up what is reserved and spent since a time, by provider, unit and UTC day."""
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
    ) -> None:
        """Replace rows by their next versions (version 1 of an attempt is inserted), all or none.

        ``caps`` are those that the entry must not pass once more (a job that is run again).
        """
        ...

    async def job(self, job_id: str) -> Job | None:
        """Return a job by our id."""
        ...

    async def attempts(self, job_id: str) -> list[Attempt]:
        """Return a job's attempts, oldest first."""
        ...

    async def attempt(self, attempt_id: str) -> Attempt | None:
        """Return an attempt by its id."""
        ...

    async def find(self, owner: str, provider: str, provider_job_id: str) -> Job | None:
        """Return the owner's job with this id at the provider."""
        ...

    async def list(self, query: Query) -> list[Job]:
        """Return the jobs that match, newest first."""
        ...

    async def claim(self, holder: str, is_dead: Callable[[str], bool]) -> list[Job]:
        """Take over every job that has not ended and whose holder is dead or nobody.

        Returns the taken rows, which now name ``holder``, as their next versions.
        """
        ...

    async def holders(self) -> set[str]:
        """Return who holds jobs that have not ended."""
        ...

    async def unsettled(self, is_dead: Callable[[str], bool]) -> list[Attempt]:
        """Return the attempts without a job, in state ``prepared`` or ``sent``, of dead holders.

        An attempt's holder is the one that its last writer's store was made for.
        """
        ...

    async def count(self, owner: str, operation: str, since: float) -> int:
        """Count the jobs of an operation that were accepted, or may have been, since a time.

        The time of a job is ``submitted_at``, or ``created_at`` while it has none.
        """
        ...

    async def outcomes(
        self, owner: str, operations: Sequence[str], since: float
    ) -> list[tuple[float, Status]]:
        """Return when jobs of these operations were sent since a time, and their status; newest first."""
        ...

    async def waiting(self, owner: str, operation: str) -> int:
        """Count the jobs of an operation that have not been sent yet, but for those that ask."""
        ...

    async def changed(self) -> bool:
        """Tell whether another process wrote since this was last called."""
        ...

    async def prune(self, horizon: Horizon) -> int:
        """Delete what is older than the horizon: jobs, their attempts, entries of the ledger.

        Returns how many jobs.
        """
        ...

    async def forgotten(self) -> float | None:
        """Return the time before which the ledger is not whole; None: it always is."""
        ...

    async def close(self) -> None:
        """Let go of files and threads."""
        ...


class Liveness(Protocol):
    """Which of the processes that write to a store are alive.

    It exists from before the store's first row is written until after the last one: a process
    whose liveness was opened counts as alive for all others until `release`, or until it died.
    """

    @property
    def holder(self) -> str:
        """The name under which this process holds rows."""
        ...

    @property
    def shared(self) -> bool:
        """Whether there can be other processes; if not, nobody looks for dead ones."""
        ...

    @property
    def beat_seconds(self) -> float | None:
        """How often `beat` is called; None: once, when the jobs of dead processes were taken over."""
        ...

    def dead(self, holder: str) -> bool:
        """Tell whether the process of this name is gone. In doubt it is alive.

        Called on any thread, also within a transaction of the store, so it must not wait for one.
        """
        ...

    async def beat(self) -> None:
        """Say that this process is alive, and clear away what dead ones have left.

        Raises
        ------
        JournalError: it cannot be said now; it is tried again.
        """
        ...

    async def release(self) -> None:
        """End: from now on this process counts as dead."""
        ...


class Alone:
    """The `Liveness` of a store that only this process can reach: everybody else is dead."""

    shared = False
    beat_seconds = None

    def __init__(self, holder: str) -> None:
        self.holder = holder

    def dead(self, holder: str) -> bool:
        """Tell whether it is not this process."""
        return holder != self.holder

    async def beat(self) -> None:
        """Do nothing: nobody is told."""

    async def release(self) -> None:
        """Do nothing: nobody is told."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A store with what its processes share beside it."""

    store: Store
    liveness: Liveness
    limits: Callable[[str, str, Limits], LimitsState] | None = None
    """Returns what all processes have used of a credential's limits, by the provider's name and the
    credential's fingerprint; None: this process uses them alone."""
