"""Deletes old jobs and ledger entries that no cap or quota counts and the settings do not keep.

This is done when the journal is opened, and then once a day at the next change of a job: without
changes the journal does not grow, so that an idle server need not wake up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from darkroom.jobs.spending import beginning
from darkroom.jobs.store import Horizon, Query

if TYPE_CHECKING:
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job

DAY_SECONDS = 86_400.0


class Pruner:
    """Prunes the journal once a day, while jobs change."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._due = 0.0
        self._newest: float | None = None
        self._began = anyio.current_time()
        runtime.context.registry.watchers.append(self._changed)
        self._begin()

    def _changed(self, _: Job) -> None:
        if self._runtime.context.clock() >= self._due:
            self._begin()

    def _begin(self) -> None:
        self._due = self._runtime.context.clock() + DAY_SECONDS
        self._runtime.context.spawn(self._prune)

    async def _now(self) -> float:
        """Return the time as far as it can be trusted for deleting.

        A clock that is weeks ahead for one start must not erase what keeps jobs from being paid
        twice: nothing is old before the newest row was, and time goes on as this process lives.
        """
        context = self._runtime.context
        if self._newest is None:
            store = context.registry.store
            newest = [
                job.created_at
                for owner in await store.owners()
                for job in await store.list(Query(owner=owner, limit=1))
            ]
            self._newest = max(newest, default=context.clock())
        return min(context.clock(), self._newest + anyio.current_time() - self._began)

    async def _prune(self) -> None:
        runtime, context, now = self._runtime, self._runtime.context, await self._now()
        quotas = (name for name, each in context.operations.items() if each.quota is not None)
        await context.registry.store.prune(
            Horizon(
                ended=now - context.settings.jobs.keep_days * DAY_SECONDS,
                window=beginning("month", now),
                counted=frozenset(quotas),
                lives=lambda holder: not runtime.liveness.dead(holder),
            )
        )
        used: set[str] = set()
        for owner in await context.registry.store.owners():
            used |= await runtime.uploads.used(owner)
        await runtime.intake.prune(used)
