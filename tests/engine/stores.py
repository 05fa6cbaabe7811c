"""Journals that are slow, that cannot be written, or that a killed process left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from darkroom.core.errors import JournalError
from darkroom.jobs.storage.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from darkroom.config.settings import Settings
    from darkroom.jobs.model import Attempt, Job
    from darkroom.jobs.spending import Cap, Entry
    from darkroom.jobs.store import Created, Share

T = TypeVar("T")


class TroubledStore(MemoryStore):
    """A journal that outlives the server, takes ``slow`` seconds to write, and fails on demand.

    ``fails(job, attempts)`` tells whether a write fails; ``writes`` are the states written, a
    job's first: ``("submitting", "sent")``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.slow = 0.0
        self.fails: Callable[[Job | None, Sequence[Attempt]], bool] = lambda _job, _attempts: False
        self.writes: list[tuple[str, ...]] = []

    async def opened(self, settings: Settings) -> TroubledStore:
        """Return itself, as the machine opens a store."""
        del settings
        return self

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
        """Insert a job, if the journal can be written."""
        return await self._write(
            lambda: super(TroubledStore, self).create(
                job,
                attempts,
                identical_since=identical_since,
                by_key_only=by_key_only,
                entry=entry,
                caps=caps,
            ),
            job,
            attempts,
        )

    async def write(
        self,
        job: Job | None,
        attempts: Sequence[Attempt] = (),
        *,
        entry: Entry | None = None,
        caps: Sequence[Cap] = (),
        shares: Sequence[Share] = (),
    ) -> None:
        """Replace rows, if the journal can be written."""
        await self._write(
            lambda: super(TroubledStore, self).write(
                job, attempts, entry=entry, caps=caps, shares=shares
            ),
            job,
            attempts,
        )

    async def _write(
        self, write: Callable[[], Awaitable[T]], job: Job | None, attempts: Sequence[Attempt]
    ) -> T:
        await anyio.sleep(self.slow)
        if self.fails(job, attempts):
            raise JournalError("the disk is full, so nothing was written")
        result = await write()
        states = [job.status] if job is not None else []
        self.writes.append((*states, *(attempt.state for attempt in attempts)))
        return result
