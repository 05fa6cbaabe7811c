"""When to poll a job: when it has probably ended, as often as requests are to spare.

The duration is learned for each operation as a running mean and deviation; the documented time is
the first estimate. Jobs end between an earliest and a latest age. A job that may waste no request is
polled at the latest age. One that may waste some is polled at the earliest age and then at even
distances, at least a twentieth of its age, so that the end is noticed a few percent late and a job
that takes long is polled less and less often. While a short first estimate was never confirmed and
many requests are to spare, the job is polled from early on, at distances that grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SHARE_OF_AGE = 0.05
EARLY_DEVIATIONS = 1.5
FIRST_DEVIATION = 0.12
"""Assumed deviation, as a share of the duration, before any job of the operation has ended."""

LATE_DEVIATIONS = 2.1
LEARNING = 0.2
"""Least weight of the newest observation; the first ones weigh more."""

REFUTED = 2.0
"""A first guess that is wrong by this factor is forgotten with the first job that ends."""

SHORTEST_INTERVAL_SECONDS = 0.25
LONGEST_INTERVAL_SECONDS = 60.0

LONGEST_PROBED_SECONDS = 20.0
"""A longer first guess is believed: what a wrong one costs is small beside the job."""

FIRST_PROBE_SECONDS = 1.0
FIRST_PROBE_SHARE = 1 / 6
LEAST_PROBE_GROWTH = 1.25
MOST_PROBE_GROWTH = 1.5
"""Of a probe's age to the next one's; with few requests to spare the first one is asked later."""

MOST_PROBES = 5
PROBED_SHARE = 0.5
"""Of the requests to spare; the others are for the time at which the guess expects the end."""


@dataclass(slots=True)
class PollEstimate:
    """The estimated duration of one operation, in seconds."""

    mean: float
    deviation: float
    interval: float
    seen: int = 0
    """How many ends were learned from."""

    @classmethod
    def of(cls, typical_seconds: float, interval_seconds: float) -> PollEstimate:
        """Return an estimate from the documented time."""
        return cls(typical_seconds, typical_seconds * FIRST_DEVIATION, interval_seconds)

    def earliest(self) -> float:
        """Return the age before which hardly a job ends."""
        return max(0.0, self.mean - EARLY_DEVIATIONS * self.deviation)

    def latest(self) -> float:
        """Return the age by which nearly every job has ended."""
        return self.mean + LATE_DEVIATIONS * self.deviation

    def patient(self, spare: float) -> float:
        """Return the age of a job at its first poll while requests are scarce.

        At this age nearly every job has ended, so that no poll is wasted. ``spare`` is how long a
        job may go without a poll before its concurrency slot is scarcer than the requests.
        """
        return max(self.earliest(), min(self.latest(), spare))

    def next(
        self, age: float, extra: float = math.inf, least: float = 0.0, *, probing: bool = True
    ) -> float:
        """Return the seconds until the next poll of a job of this ``age``.

        ``extra`` is how many requests may be spent on this job beside the one that sees its end;
        ``least`` is the interval at which the polls of all jobs can be sent. ``probing``: this job
        may test a first estimate that was never confirmed.
        """
        early = self.earliest()
        if extra < 1:
            if (left := self.latest() - age) >= min(self.interval, SHORTEST_INTERVAL_SECONDS):
                return left
            return min(max(self.interval, SHARE_OF_AGE * age), LONGEST_INTERVAL_SECONDS)
        least = max(least, SHORTEST_INTERVAL_SECONDS)
        probe = self._probe(age, extra) if probing else None
        if probe is not None:
            return max(probe, least)
        even = (self.latest() - max(age, early)) / (extra + 1)
        short = SHARE_OF_AGE * max(age, early)
        if age < early:
            return max(early - age + (even if even > short else 0.0), least)
        return min(max(even, short, least), LONGEST_INTERVAL_SECONDS)

    def _probe(self, age: float, extra: float) -> float | None:
        """Return the seconds until a guess that was never confirmed is put to the test."""
        early = self.earliest()
        probes = math.floor(min(extra * PROBED_SHARE, MOST_PROBES))
        if self.seen or self.mean > LONGEST_PROBED_SECONDS or age >= early or probes < 1:
            return None
        first = max(FIRST_PROBE_SECONDS, FIRST_PROBE_SHARE * self.mean)
        first = max(first, early / MOST_PROBE_GROWTH**probes)
        if age < first:
            return max(first - age, (LEAST_PROBE_GROWTH - 1) * age)
        growth = min(max(LEAST_PROBE_GROWTH, (early / age) ** (1 / probes)), MOST_PROBE_GROWTH)
        return min(growth * age, early) - age

    def observe(self, seen_at: float, missed_at: float | None) -> None:
        """Learn that a job had ended at the age ``seen_at`` and had not ended at ``missed_at``.

        If the first poll found it ended, it is only known that it took no longer: a long first
        estimate is halved until a poll comes before the end.
        """
        if missed_at is not None:
            self.learn((missed_at + seen_at) / 2)
        elif seen_at < self.mean and not self.seen and self.mean > LONGEST_PROBED_SECONDS:
            self.mean, self.deviation = self.mean / REFUTED, self.deviation / REFUTED
        elif seen_at < self.mean:
            self.learn(seen_at)

    def learn(self, duration: float) -> None:
        """Learn how long a job took."""
        self.seen += 1
        ratio = max(duration, 1e-3) / max(self.mean, 1e-3)
        if self.seen == 1 and not 1 / REFUTED < ratio < REFUTED:
            self.mean, self.deviation = duration, duration * FIRST_DEVIATION
            return
        weight = max(LEARNING, 1 / (self.seen + 1))
        error = abs(duration - self.mean)
        self.mean += weight * (duration - self.mean)
        self.deviation += weight * (error - self.deviation)
