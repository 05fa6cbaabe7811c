"""What is used of a credential's limits, in the memory of one process."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from typing import TYPE_CHECKING

import anyio

from darkroom.providers.client.capacity import WINDOW_MARGIN_SECONDS, capacity_of

if TYPE_CHECKING:
    from darkroom.providers.provider import Limits


class LocalLimits:
    """A `LimitsState` in this process's memory."""

    shared = False
    trouble = None

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._out = 0
        self._finished: list[float] = []
        self.slots: set[str] = set()
        """The jobs that have one."""
        self._held_until = -math.inf
        self._looks_held_until = -math.inf
        self._reach = reach(limits)

    def keep_to(self, limits: Limits) -> None:
        """Keep to other limits from now on."""
        self._limits, self._reach = limits, max(self._reach, reach(limits))

    def hold(self, seconds: float, looks_seconds: float | None = None) -> None:
        """Let nothing leave for a time, and no look for another; a longer hold stays."""
        now, looks = anyio.current_time(), seconds if looks_seconds is None else looks_seconds
        self._held_until = max(self._held_until, now + seconds)
        self._looks_held_until = max(self._looks_held_until, now + looks)

    def held(self, *, look: bool = False) -> float:
        """Return the seconds that are left of a hold."""
        until = self._looks_held_until if look else self._held_until
        return max(0.0, until - anyio.current_time())

    def delay(self, *, look: bool = False) -> float:
        """Return the seconds until a request may leave; infinity while all that may are out."""
        now = anyio.current_time()
        if self._finished and self._finished[0] <= now - self._reach:
            del self._finished[: bisect_right(self._finished, now - self._reach)]
        free_at = max(now, self._looks_held_until if look else self._held_until)
        for rate in self._limits.rates:
            left = rate.requests - self._out
            if left <= 0:
                return math.inf
            if len(self._finished) >= left:
                free_at = max(free_at, self._finished[-left] + rate.seconds + WINDOW_MARGIN_SECONDS)
        return free_at - now

    def free(self) -> float:
        """Return how many requests may leave now; infinity where nothing limits them."""
        if self.held() > 0:
            return 0
        oldest = anyio.current_time() - WINDOW_MARGIN_SECONDS
        counted = (
            (rate, len(self._finished) - bisect_right(self._finished, oldest - rate.seconds))
            for rate in self._limits.rates
        )
        return min((r.requests - self._out - number for r, number in counted), default=math.inf)

    def capacity(self, seconds: float, shortest: float = 0.0) -> float:
        """Return how many requests may leave within a time, by windows at least so long."""
        rates = [rate for rate in self._limits.rates if rate.seconds >= shortest]
        now, held = anyio.current_time(), self.held()
        return capacity_of(rates, self._out, self._finished, now, seconds, held)

    def take(self, *, look: bool = False) -> int | None:
        """Count a request that leaves now; None if it may not."""
        if self.delay(look=look) > 0:
            return None
        self._out += 1
        return 0

    def done(self, token: int, *, counts: bool) -> None:
        """Say that a request is over; one that was never sent does not count."""
        del token
        self._out -= 1
        if counts and self._limits.rates:
            insort(self._finished, anyio.current_time())

    def slot_free(self, job_id: str) -> bool:
        """Tell whether the job has a concurrency slot or may take one."""
        limit = self._limits.concurrent_jobs
        return limit is None or job_id in self.slots or len(self.slots) < limit

    def occupy(self, job_id: str, seconds: float) -> bool:
        """Take a slot for a job; False if none is free (a job that runs already counts all the same)."""
        del seconds
        free = self.slot_free(job_id)
        if self._limits.concurrent_jobs is not None:
            self.slots.add(job_id)
        return free

    def release(self, job_id: str) -> bool:
        """Give a job's slot back; tell whether it had one."""
        had = job_id in self.slots
        self.slots.discard(job_id)
        return had


def reach(limits: Limits) -> float:
    """Return how long a request counts that is over (seconds)."""
    return WINDOW_MARGIN_SECONDS + max((rate.seconds for rate in limits.rates), default=0.0)
