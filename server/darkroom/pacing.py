"""Rates and concurrency, per credential: what a provider allows is used, and never exceeded.

A `Lane` hands out turns. A turn counts against every window from the moment it was granted until
its answer came and a window's length beyond: whatever the network does in between, no window at
the provider's end holds more than the documented number. Nothing waits in a task: a ticket is an
entry in a queue, and its action runs when its turn comes.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.jobs.schedule import Scheduler
    from darkroom.operation import Limits

Kind = Literal["call", "start", "poll"]
"""Who asks: a chat that waits, a submission, the poller. They are served in rotation."""

KINDS: tuple[Kind, ...] = ("call", "start", "poll")

WINDOW_MARGIN_SECONDS = 0.02
"""Added to every window, for clocks that differ in their last digits."""


@dataclass(eq=False, slots=True)
class Turn:
    """Leave to send one request; `done` must be called when it was answered or given up."""

    _lane: Lane
    _over: bool = False

    def done(self) -> None:
        """Say that the request is over: its place in the windows runs out from now."""
        if not self._over:
            self._over = True
            self._lane.finished(counts=True)

    def give_back(self) -> None:
        """Say that no request was sent: it counts against nothing."""
        if not self._over:
            self._over = True
            self._lane.finished(counts=False)


@dataclass(eq=False, slots=True)
class Ticket:
    """A request that waits for its turn."""

    kind: Kind
    action: Callable[[Turn], None]
    slot: str | None = None
    """The job that needs a concurrency slot for this, if any."""

    cancelled: bool = False


class Lane:
    """The turns of one credential at one provider."""

    def __init__(self, limits: Limits, schedule: Scheduler) -> None:
        self._limits = limits
        self._schedule = schedule
        self._out = 0
        self._finished: list[float] = []
        self._queues: dict[Kind, deque[Ticket]] = {kind: deque() for kind in KINDS}
        self._next = 0
        self._slots: set[str] = set()
        self._held_until = -math.inf
        self._reach = WINDOW_MARGIN_SECONDS + max((r.seconds for r in limits.rates), default=0.0)
        self._pumping = False

    # --- asking ---

    def ask(self, kind: Kind, action: Callable[[Turn], None], *, slot: str | None = None) -> Ticket:
        """Run ``action`` with a turn, at once if one is free; ``slot`` names the job that needs one."""
        ticket = Ticket(kind, action, slot)
        self._queues[kind].append(ticket)
        self.pump()
        return ticket

    async def turn(self, kind: Kind) -> Turn:
        """Wait for a turn. A caller that is cancelled meanwhile gives it up."""
        granted: list[Turn] = []
        event = anyio.Event()

        def grant(turn: Turn) -> None:
            granted.append(turn)
            event.set()

        ticket = self.ask(kind, grant)
        try:
            await event.wait()
        except BaseException:
            ticket.cancelled = True
            if granted:
                granted[0].done()
            raise
        return granted[0]

    # --- what is free ---

    def delay(self, now: float) -> float:
        """Return the seconds until the rates allow a request; infinity while requests are out."""
        free_at = self._held_until
        for rate in self._limits.rates:
            left = rate.requests - self._out
            if left <= 0:
                return math.inf
            if len(self._finished) >= left:
                free_at = max(free_at, self._finished[-left] + rate.seconds + WINDOW_MARGIN_SECONDS)
        return max(0.0, free_at - now)

    def estimate(self, kind: Kind) -> float:
        """Return the seconds after which the newest ticket of a kind may expect its turn."""
        now = anyio.current_time()
        delay = self.delay(now)
        ahead = len(self._queues[kind])
        pace = min((r.requests / r.seconds for r in self._limits.rates), default=math.inf)
        return (0.0 if delay == math.inf else delay) + max(0, ahead - 1) / pace

    def slot_free(self, job_id: str) -> bool:
        """Tell whether the job has a concurrency slot or may take one."""
        limit = self._limits.concurrent_jobs
        return limit is None or job_id in self._slots or len(self._slots) < limit

    def occupy(self, job_id: str) -> None:
        """Count a job that runs already (found in the journal, or of unknown fate)."""
        if self._limits.concurrent_jobs is not None:
            self._slots.add(job_id)

    def release(self, job_id: str) -> None:
        """Give a job's slot back."""
        if job_id in self._slots:
            self._slots.discard(job_id)
            self.pump()

    def hold(self, seconds: float) -> None:
        """Grant nothing for a time: the provider asked for it."""
        self._held_until = max(self._held_until, anyio.current_time() + seconds)

    @property
    def waiting(self) -> int:
        """How many tickets wait."""
        return sum(len(queue) for queue in self._queues.values())

    # --- granting ---

    def pump(self) -> None:
        """Grant every turn that is free now, and be back when the next one will be."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while (ticket := self._first()) is not None:
                now = anyio.current_time()
                self._forget(now)
                delay = self.delay(now)
                if delay > 0:
                    if delay < math.inf:
                        self._schedule.at(self, now + delay, self.pump)
                    return
                self._queues[ticket.kind].popleft()
                self._next = (KINDS.index(ticket.kind) + 1) % len(KINDS)
                if ticket.slot is not None:
                    self.occupy(ticket.slot)
                self._out += 1
                ticket.action(Turn(self))
        finally:
            self._pumping = False

    def _first(self) -> Ticket | None:
        """Return the ticket whose turn it is: kinds in rotation, first come first served in each."""
        for step in range(len(KINDS)):
            queue = self._queues[KINDS[(self._next + step) % len(KINDS)]]
            while queue and queue[0].cancelled:
                queue.popleft()
            if queue and (queue[0].slot is None or self.slot_free(queue[0].slot)):
                return queue[0]
        return None

    def finished(self, *, counts: bool) -> None:
        """Take in that a turn is over; only a `Turn` calls this."""
        self._out -= 1
        if counts and self._limits.rates:
            insort(self._finished, anyio.current_time())
        self.pump()

    def _forget(self, now: float) -> None:
        """Drop what no window reaches any more."""
        if self._finished and self._finished[0] <= now - self._reach:
            del self._finished[: bisect_right(self._finished, now - self._reach)]
