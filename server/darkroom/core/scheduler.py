"""Runs actions at given times: one heap, one timer, one task, idle while nothing is due."""

from __future__ import annotations

import heapq
import logging
import math
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


log = logging.getLogger("darkroom")


class Scheduler(Protocol):
    """Runs actions at given times; `HeapScheduler` implements it."""

    def at(self, key: Hashable, due: float, action: Callable[[], None]) -> None:
        """Run ``action`` at ``due`` (event loop's clock); it replaces the action of ``key``."""
        ...

    def cancel(self, key: Hashable) -> None:
        """Remove the action of ``key``, if it has one."""
        ...

    def due(self, key: Hashable) -> float | None:
        """Return when ``key`` is due; None if it has no action."""
        ...


class HeapScheduler:
    """A `Scheduler` with a heap; `run` is its only task.

    An entry that was replaced or cancelled stays in the heap until its time comes. If there are
    more such entries than live ones, the heap is rebuilt.
    """

    def __init__(self) -> None:
        self._scheduler: list[tuple[float, int, Hashable]] = []
        self._live: dict[Hashable, tuple[float, int, Callable[[], None]]] = {}
        self._serial = 0
        self._wake = anyio.Event()
        self._sleeping_until = -math.inf

    def at(self, key: Hashable, due: float, action: Callable[[], None]) -> None:
        """Run ``action`` at ``due``; it replaces the action of ``key``."""
        self._serial += 1
        self._live[key] = (due, self._serial, action)
        if len(self._scheduler) > 64 + 2 * len(self._live):
            self._scheduler = [(at, serial, k) for k, (at, serial, _) in self._live.items()]
            heapq.heapify(self._scheduler)
        else:
            heapq.heappush(self._scheduler, (due, self._serial, key))
        if due < self._sleeping_until:
            self._wake.set()

    def cancel(self, key: Hashable) -> None:
        """Remove the action of ``key``, if it has one."""
        self._live.pop(key, None)

    def due(self, key: Hashable) -> float | None:
        """Return when ``key`` is due; None if it has no action."""
        entry = self._live.get(key)
        return entry[0] if entry is not None else None

    def __len__(self) -> int:
        return len(self._live)

    def fire(self, now: float) -> float:
        """Run what is due at ``now``; return when the next entry is (infinity: never)."""
        while self._scheduler:
            due, serial, key = self._scheduler[0]
            entry = self._live.get(key)
            if entry is None or entry[1] != serial:
                heapq.heappop(self._scheduler)
                continue
            if due > now:
                return due
            heapq.heappop(self._scheduler)
            del self._live[key]
            try:
                entry[2]()
            except Exception as error:  # noqa: BLE001 -- one bug must not end the others
                log.error("a scheduled action failed: %s", type(error).__name__)
        return math.inf

    async def run(self) -> None:
        """Fire entries as they come due, until cancelled."""
        while True:
            self._sleeping_until = self.fire(anyio.current_time())
            self._wake = anyio.Event()
            with anyio.move_on_at(self._sleeping_until):
                await self._wake.wait()
            self._sleeping_until = -math.inf
