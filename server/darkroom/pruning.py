"""Forgetting what nobody needs any more: no cap, no quota, and no person, as the settings say.

It is done when the journal is opened and then once a day, by whatever changes a job then: a journal
that nothing is written to does not grow, and wakes nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.jobs.store import Horizon
from darkroom.spending import beginning

if TYPE_CHECKING:
    from darkroom.jobs.model import Job
    from darkroom.works import Works

DAY_SECONDS = 86_400.0


class Pruner:
    """Prunes the journal, once a day as long as there are jobs."""

    def __init__(self, works: Works) -> None:
        self._works = works
        self._due = 0.0
        works.core.registry.watchers.append(self._changed)
        self._begin()

    def _changed(self, _: Job) -> None:
        if self._works.core.clock() >= self._due:
            self._begin()

    def _begin(self) -> None:
        self._due = self._works.core.clock() + DAY_SECONDS
        self._works.core.spawn(self._prune)

    async def _prune(self) -> None:
        works, core, now = self._works, self._works.core, self._works.core.clock()
        quotas = (name for name, each in core.operations.items() if each.quota is not None)
        await core.registry.store.prune(
            Horizon(
                ended=now - core.settings.jobs.keep_days * DAY_SECONDS,
                window=beginning("month", now),
                counted=frozenset(quotas),
                lives=lambda holder: holder == core.registry.holder or not works.dead(holder),
            )
        )
