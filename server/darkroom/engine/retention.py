"""Deletes old jobs and ledger entries that no cap or quota counts and the settings do not keep.

This is done when the journal is opened, and then once a day at the next change of a job: without
changes the journal does not grow, so that an idle server need not wake up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.jobs.spending import beginning
from darkroom.jobs.store import Horizon

if TYPE_CHECKING:
    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job

DAY_SECONDS = 86_400.0


class Pruner:
    """Prunes the journal once a day, while jobs change."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._due = 0.0
        runtime.context.registry.watchers.append(self._changed)
        self._begin()

    def _changed(self, _: Job) -> None:
        if self._runtime.context.clock() >= self._due:
            self._begin()

    def _begin(self) -> None:
        self._due = self._runtime.context.clock() + DAY_SECONDS
        self._runtime.context.spawn(self._prune)

    async def _prune(self) -> None:
        runtime, context, now = self._runtime, self._runtime.context, self._runtime.context.clock()
        quotas = (name for name, each in context.operations.items() if each.quota is not None)
        await context.registry.store.prune(
            Horizon(
                ended=now - context.settings.jobs.keep_days * DAY_SECONDS,
                window=beginning("month", now),
                counted=frozenset(quotas),
                lives=lambda holder: not runtime.liveness.dead(holder),
            )
        )
