"""How many questions each running job may have, by what is left of its credential's requests.

What every job needs (its start, and the question that sees its end) comes first, to the end of the
work that is known. What is to spare beside that is spent on asking early.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from darkroom.jobs.fan_out_state import last_sent
from darkroom.jobs.poll_timing import PollEstimate
from darkroom.providers.client.rate_limiter import REQUESTS_PER_JOB

if TYPE_CHECKING:
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.client.rate_limiter import RateLimiter

RESERVED_SHARE = 1 / 4
"""Share of the spare requests that a batch leaves for what is started next."""


class PollPlan:
    """Knows the jobs that run with each key, and when to ask about each of them."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._estimates: dict[str, PollEstimate] = {}
        self._running: dict[tuple[str, str], set[str]] = {}
        """The jobs that are asked about, by provider and key."""
        self._probing: dict[str, str] = {}
        """The first job of each operation: it tests the first estimate for those that follow."""

    def next(self, live: LiveJob) -> float:
        """Count a job as running; return the seconds until it is asked about."""
        job = live.job
        self._running.setdefault((job.provider, job.fingerprint), set()).add(job.job_id)
        age = max(0.0, self._context.clock() - last_sent(live))
        least = self._limiter(job).least_distance(self._looks(job))
        return self.estimate(job.operation).next(
            age, self.spare_looks(live, age), least, probing=self._probes(job)
        )

    def _probes(self, job: Job) -> bool:
        """Tell whether this job is the one that tests a first estimate for all of its operation."""
        return self._probing.setdefault(job.operation, job.job_id) == job.job_id

    def too_early(self, live: LiveJob) -> float:
        """Return the seconds for which a job is left alone because no request is to spare."""
        job = live.job
        limiter = self._limiter(job)
        if not (limiter.contended or limiter.has_slots):
            return 0.0
        age = self._context.clock() - last_sent(live)
        early = self.estimate(job.operation).patient(limiter.spare()) - age
        return early if early > 0 and self.spare_looks(live, age) < 1 else 0.0

    def spare_looks(self, live: LiveJob, age: float) -> float:
        """Return how many questions about a job may be wasted without another job's waiting."""
        job = live.job
        limiter = self._limiter(job)
        size = self._jobs_per_look(job)
        running = len(self._running.get((job.provider, job.fingerprint), ())) or 1
        jobs = running + limiter.starts_waiting
        estimate = self.estimate(job.operation)
        left = max(estimate.latest() - age, estimate.interval)
        seconds = left + (limiter.rounds(jobs) - 1) * estimate.mean
        spare = limiter.to_spare(self._looks(job), seconds, size)
        # What is started next is not known; it must not wait because we looked too often.
        reserve = float(max(limiter.to_fill_slots, REQUESTS_PER_JOB))
        if job.batch_id is None:  # whoever starts jobs one by one goes on
            reserve *= 2
        else:
            reserve = min(reserve, RESERVED_SHARE * (spare + live.polls))
        spare -= reserve
        even = spare / math.ceil(jobs / size)
        return even if even >= 1 or spare < 1 else 1.0  # the first that ask get what is left

    def _looks(self, job: Job) -> int:
        """Return how many questions it takes to ask about every job that runs with this key."""
        running = len(self._running.get((job.provider, job.fingerprint), ())) or 1
        return math.ceil(running / self._jobs_per_look(job))

    def _jobs_per_look(self, job: Job) -> int:
        listing = self._context.operations[job.operation].state.listing
        return listing.size if listing is not None else 1

    def forget(self, job: Job) -> None:
        """Take a job that runs no more out of the plan."""
        self._running.get((job.provider, job.fingerprint), set[str]()).discard(job.job_id)

    def estimate(self, operation: str) -> PollEstimate:
        """Return what is known of how long an operation takes."""
        estimate = self._estimates.get(operation)
        if estimate is None:
            declared = self._context.operations[operation]
            typical = declared.typical_seconds * self._context.time_scale
            estimate = PollEstimate.of(typical, declared.poll_interval_seconds)
            self._estimates[operation] = estimate
        return estimate

    def _limiter(self, job: Job) -> RateLimiter:
        return self._context.clients[job.provider].limiter(job.fingerprint)
