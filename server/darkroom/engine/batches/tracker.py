"""Notices changes of batches: wakes waiting tasks, and tells the writer of the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import Registry


class Tracker:
    """Knows which batches changed."""

    def __init__(self, registry: Registry) -> None:
        self._events: dict[str, anyio.Event] = {}
        self.on_change: list[Callable[[Job], None]] = []
        registry.watchers.append(self._changed)

    def _changed(self, job: Job) -> None:
        if job.batch_id is None:
            return
        event = self._events.pop(job.batch_id, None)
        if event is not None:
            event.set()
        for watcher in self.on_change:
            watcher(job)

    async def change(self, batch_id: str, seconds: float) -> None:
        """Wait until this process changes a job of a batch, at most the given time."""
        event = self._events.setdefault(batch_id, anyio.Event())
        with anyio.move_on_after(seconds):
            await event.wait()
