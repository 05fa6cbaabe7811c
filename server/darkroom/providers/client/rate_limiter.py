"""Rates and concurrent jobs, per credential: a provider's limits are used fully, never exceeded.

A `RateLimiter` grants permits. A permit counts in every window from the moment when it is granted
until one window's length after its response: the request reaches the provider somewhere in between,
so no window of the provider can contain more than the documented number. Waiting needs no task: a
ticket is an entry in a queue, and its action runs when its permit is granted.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from darkroom.providers.client.capacity import SHORT_WINDOW_SECONDS, least_distance
from darkroom.providers.client.local_limits import LocalLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.core.scheduler import Scheduler
    from darkroom.providers.provider import Limits

Kind = str
"""Who needs a permit: ``call`` is a chat that reads, ``change`` a chat that changes something,
``start`` a submission, ``poll`` the poller; each batch has a kind of its own. Kinds are served in
rotation, so that a batch does not delay the others: the least recently served is next."""

KINDS: tuple[Kind, ...] = ("call", "change", "start", "poll")
LOOKS: frozenset[Kind] = frozenset({"call", "poll"})
"""The kinds that only read."""

LONGEST_WAIT_OF_LOOKS_SECONDS = 60.0
"""When a submission is told to pause, reads are tried again after this time: jobs that are paid for
must be polled, because the addresses of their results expire."""

LONGEST_PAUSE_OF_LOOKS_SECONDS = 3_600.0
"""When a read is told to pause, everything pauses, reads for at most this time."""

REQUESTS_PER_JOB = 2
"""A submission and one poll."""

LOOK_AGAIN_SECONDS = 0.5
"""How often shared limits are examined again while a ticket waits."""

LONGEST_SLOT_SECONDS = 3_600.0
"""A slot whose process died becomes free after this time at the latest."""


@dataclass(eq=False, slots=True)
class Permit:
    """Permission to send one request; call `done` when it was answered or given up."""

    _limiter: RateLimiter
    _token: int
    _over: bool = False

    def done(self) -> None:
        """Report that the request is over: it leaves each window one window's length from now."""
        if not self._over:
            self._over = True
            self._limiter.finished(self._token, counts=True)

    def give_back(self) -> None:
        """Report that no request was sent: the permit counts in no window."""
        if not self._over:
            self._over = True
            self._limiter.finished(self._token, counts=False)


@dataclass(eq=False, slots=True)
class Ticket:
    """A request that waits for its permit."""

    kind: Kind
    action: Callable[[Permit], None]
    slot: str | None = None
    """The job that needs a concurrency slot for this, if any."""

    cancelled: bool = False


class LimitsState(Protocol):
    """What is used of a credential's limits, in this process or shared by all processes.

    Times are on the implementation's own clock; methods return only durations.
    """

    shared: bool
    """Whether other processes use it: a slot or a place can become free at any time."""

    @property
    def trouble(self) -> OSError | None:
        """Why the limits are not shared although they should be; None: nothing is wrong."""
        ...

    def delay(self, *, look: bool = False) -> float:
        """Return the seconds until a request may be sent; infinity until an open one is over."""
        ...

    def free(self) -> float:
        """Return how many requests may be sent now; infinity without rates."""
        ...

    def capacity(self, seconds: float, shortest: float = 0.0) -> float:
        """Return how many requests may leave within a time, by windows at least so long."""
        ...

    def hold(self, seconds: float, looks_seconds: float | None = None) -> None:
        """Hold back submissions for one time and polls for another; a longer hold stays."""
        ...

    def held(self, *, look: bool = False) -> float:
        """Return the remaining seconds of a hold."""
        ...

    def take(self, *, look: bool = False) -> int | None:
        """Count a request that is sent now and return a token for `done`; None if it may not be."""
        ...

    def done(self, token: int, *, counts: bool) -> None:
        """Report that a request is over; one that was never sent does not count."""
        ...

    def slot_free(self, job_id: str) -> bool:
        """Tell whether the job has a concurrency slot or could take one."""
        ...

    def occupy(self, job_id: str, seconds: float) -> bool:
        """Take a slot for a job, for at most the given time; False if none is free."""
        ...

    def release(self, job_id: str) -> bool:
        """Give a job's slot back; tell whether it had one."""
        ...

    def keep_to(self, limits: Limits) -> None:
        """Keep to other limits from now on; no window holds more than the most it began with."""
        ...


def most_within(limits: Limits, seconds: float) -> float:
    """Return how many requests the rates can allow in a time at most; infinity without rates."""
    return min(
        (rate.requests * (seconds // rate.seconds + 1) for rate in limits.rates), default=math.inf
    )


class RateLimiter:
    """Grants permits and concurrency slots for one credential at one provider."""

    def __init__(
        self, limits: Limits, schedule: Scheduler, limits_state: LimitsState | None = None
    ) -> None:
        self._limits = limits
        self._schedule = schedule
        self._limits_state = limits_state if limits_state is not None else LocalLimits(limits)
        self._queues: dict[Kind, deque[Ticket]] = {kind: deque() for kind in KINDS}
        """By who asks, the one served longest ago first."""

        self._pumping = False

    def keep_to(self, limits: Limits) -> None:
        """Keep to other limits from now on: the provider said what this account is allowed."""
        self._limits = limits
        self._limits_state.keep_to(limits)
        self.pump()

    # --- asking for a permit ---

    def ask(
        self, kind: Kind, action: Callable[[Permit], None], *, slot: str | None = None
    ) -> Ticket:
        """Run ``action`` with a permit as soon as one is free; ``slot``: the job that needs a slot."""
        ticket = Ticket(kind, action, slot)
        self._queues.setdefault(kind, deque()).append(ticket)
        self.pump()
        return ticket

    async def permit(self, kind: Kind) -> Permit:
        """Wait for a permit. If the caller is cancelled meanwhile, the permit is given back."""
        granted: list[Permit] = []
        event = anyio.Event()

        def grant(permit: Permit) -> None:
            granted.append(permit)
            event.set()

        ticket = self.ask(kind, grant)
        try:
            await event.wait()
        except BaseException:
            ticket.cancelled = True
            if granted:
                granted[0].give_back()
            raise
        return granted[0]

    # --- what is free ---

    @property
    def trouble(self) -> OSError | None:
        """Why the limits are not shared although they should be; None: nothing is wrong."""
        return self._limits_state.trouble

    def free(self) -> float:
        """Return how many requests may be sent now in addition to those that wait."""
        return self._limits_state.free() - self.waiting

    def to_spare(self, looks: float, seconds: float, jobs_per_look: int = 1) -> float:
        """Return how many requests within ``seconds`` no job needs, of those that wait or run.

        ``looks`` are the questions that jobs which run need at least. A submission that waits will
        need one as well; one may answer for several jobs. What a short window does not use is lost
        anyway: while no submission waits, only `least_distance` keeps to it.
        """
        needed = looks + self.starts_waiting * (1 + 1 / jobs_per_look)
        shortest = 0.0 if self.starts_waiting else SHORT_WINDOW_SECONDS
        return self._limits_state.capacity(seconds, shortest) - needed

    def least_distance(self, looks: float) -> float:
        """Return the seconds that so many looks take by the short windows."""
        return looks * least_distance(self._limits.rates)

    @property
    def has_slots(self) -> bool:
        """Tell whether the number of jobs at once is limited."""
        return self._limits.concurrent_jobs is not None

    @property
    def starts_waiting(self) -> int:
        """How many tickets wait that are no looks."""
        return sum(len(queue) for kind, queue in self._queues.items() if kind not in LOOKS)

    @property
    def to_fill_slots(self) -> int:
        """How many requests it takes to start and see as many jobs as may run at once."""
        return REQUESTS_PER_JOB * (self._limits.concurrent_jobs or 0)

    def rounds(self, jobs: int) -> int:
        """Return how often the concurrency slots must be filled for so many jobs."""
        slots = self._limits.concurrent_jobs
        return 1 if slots is None else math.ceil(jobs / slots)

    def estimate(self, kind: Kind) -> float:
        """Return the estimated seconds until the newest ticket of a kind gets its permit."""
        delay = self._limits_state.delay(look=kind in LOOKS)
        ahead = len(self._queues.get(kind, ()))
        pace = min((r.requests / r.seconds for r in self._limits.rates), default=math.inf)
        return (0.0 if delay == math.inf else delay) + max(0, ahead - 1) / pace

    def slot_free(self, job_id: str) -> bool:
        """Tell whether the job has a concurrency slot or may take one."""
        return self._limits_state.slot_free(job_id)

    def occupy(self, job_id: str, seconds: float = LONGEST_SLOT_SECONDS) -> None:
        """Give a slot to a job that runs already (found in the journal, or unknown)."""
        self._limits_state.occupy(job_id, seconds)

    def release(self, job_id: str) -> None:
        """Give a job's slot back."""
        if self._limits_state.release(job_id):
            self.pump()

    def hold(self, kind: Kind, seconds: float) -> None:
        """Grant no permits for a time, because the provider asked for a pause.

        It applies to all processes that share the limits. ``kind`` is the kind of request that was
        told to wait. Polls do not wait as long as submissions.
        """
        longest = LONGEST_PAUSE_OF_LOOKS_SECONDS if kind in LOOKS else LONGEST_WAIT_OF_LOOKS_SECONDS
        self._limits_state.hold(seconds, min(seconds, longest))

    def held(self, kind: Kind) -> float:
        """Return the remaining seconds of the provider's pause for this kind."""
        return self._limits_state.held(look=kind in LOOKS)

    @property
    def contended(self) -> bool:
        """Tell whether submissions wait: then every poll takes a permit away from them."""
        return any(queue for kind, queue in self._queues.items() if kind not in LOOKS)

    def spare(self) -> float:
        """Return the seconds that a job may keep its slot before slots are scarcer than requests.

        Infinity if the number of concurrent jobs is not limited.
        """
        slots = self._limits.concurrent_jobs
        pace = min((r.requests / r.seconds for r in self._limits.rates), default=math.inf)
        return math.inf if slots is None else REQUESTS_PER_JOB * slots / pace

    @property
    def waiting(self) -> int:
        """How many tickets wait."""
        return sum(len(queue) for queue in self._queues.values())

    # --- granting ---

    def pump(self) -> None:
        """Grant every permit that is free now, and schedule the next run for when one will be."""
        if self._pumping:
            return
        self._pumping = True
        back, looks_only = math.inf, False
        try:
            while (ticket := self._first(looks_only=looks_only)) is not None:
                look = ticket.kind in LOOKS
                token = self._limits_state.take(look=look)
                if token is None:
                    back = min(back, self._limits_state.delay(look=look))
                    if look:
                        break
                    # The pause may be for submissions only: polls can still be granted.
                    looks_only = True
                    continue
                self._serve(ticket.kind)
                permit = Permit(self, token)
                # `_first` saw a free slot, but another process may have taken it since: only
                # `occupy` decides. Then the ticket goes back to the head of its queue.
                if ticket.slot is not None and not self._limits_state.occupy(
                    ticket.slot, LONGEST_SLOT_SECONDS
                ):
                    permit.give_back()
                    self._queues.setdefault(ticket.kind, deque()).appendleft(ticket)
                    break
                ticket.action(permit)
            if self.waiting:
                self._come_back(back)
        finally:
            self._pumping = False

    def _come_back(self, delay: float) -> None:
        """Schedule the next run; with shared limits a permit can become free at any time."""
        if self._limits_state.shared:
            delay = min(delay, LOOK_AGAIN_SECONDS)
        if delay < math.inf:
            self._schedule.at(self, anyio.current_time() + delay, self.pump)

    def _first(self, *, looks_only: bool) -> Ticket | None:
        """Return the next ticket: kinds in rotation, and first come, first served within a kind."""
        for kind, queue in self._queues.items():
            while queue and queue[0].cancelled:
                queue.popleft()
            if looks_only and kind not in LOOKS:
                continue
            if queue and (queue[0].slot is None or self._limits_state.slot_free(queue[0].slot)):
                return queue[0]
        return None

    def _serve(self, kind: Kind) -> None:
        """Remove the first ticket of a kind, and move the kind behind the others."""
        queue = self._queues.pop(kind)
        queue.popleft()
        if queue or kind in KINDS:
            self._queues[kind] = queue

    def finished(self, token: int, *, counts: bool) -> None:
        """Record that a permit's request is over; only a `Permit` calls this."""
        self._limits_state.done(token, counts=counts)
        if any(self._queues.values()):
            self.pump()
