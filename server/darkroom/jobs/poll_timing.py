"""When to ask for a job's state: when an answer is likely, as often as requests are to spare.

Durations are learned per operation: a running mean and deviation, begun with the documented time.
Jobs end between an earliest and a latest age. A job that may waste no request is asked about at the
latest age; one that may waste some is asked at the earliest age and then at even distances, a
twentieth of its age at least, so that the news is a few percent of the job's time late and a long
job is not asked about for ever. While a short guess was never confirmed and many requests are to
spare, it is asked about from early on, at distances that grow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SHARE_OF_AGE = 0.05
EARLY_DEVIATIONS = 1.5
FIRST_DEVIATION = 0.12
"""Deviation taken for an operation before any of its jobs was seen to end, as a share of its time."""

LATE_DEVIATIONS = 2.5
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

MOST_PROBES = 8
PROBED_SHARE = 0.5
"""Of the requests to spare; the others are for the time at which the guess expects the end."""


@dataclass(slots=True)
class PollEstimate:
    """What is known of how long one operation takes. Seconds."""

    mean: float
    deviation: float
    interval: float
    seen: int = 0
    """How many ends were learned from."""

    @classmethod
    def of(cls, typical_seconds: float, interval_seconds: float) -> PollEstimate:
        """Begin with the documented time."""
        return cls(typical_seconds, typical_seconds * FIRST_DEVIATION, interval_seconds)

    def earliest(self) -> float:
        """Return the age before which hardly a job ends."""
        return max(0.0, self.mean - EARLY_DEVIATIONS * self.deviation)

    def latest(self) -> float:
        """Return the age by which nearly every job has ended."""
        return self.mean + LATE_DEVIATIONS * self.deviation

    def patient(self, spare: float) -> float:
        """Return the age at which to ask for the first time while requests are what is scarce.

        By then nearly every job has ended, so that no question is wasted; ``spare`` is how long a
        job may be left alone before its concurrency slot is scarcer than the requests.
        """
        return max(self.earliest(), min(self.latest(), spare))

    def next(self, age: float, extra: float = math.inf, least: float = 0.0) -> float:
        """Return the seconds from now, at ``age``, until the next question.

        ``extra`` is how many requests may be spent on this job beside the one that sees its end;
        ``least`` is the distance of its questions at which those of all jobs can be asked.
        """
        early = self.earliest()
        if extra < 1:
            if early - age >= self.interval:
                return early - age
            return min(max(self.interval, SHARE_OF_AGE * age), LONGEST_INTERVAL_SECONDS)
        least = max(least, SHORTEST_INTERVAL_SECONDS)
        probe = self._probe(age, extra)
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
        """Take in that a job had ended at the age ``seen_at``, and had not at ``missed_at``.

        A job that was not asked about before it ended tells only that it took no longer: a long
        first guess is halved until a question comes before the end.
        """
        if missed_at is not None:
            self.learn((missed_at + seen_at) / 2)
        elif seen_at < self.mean and not self.seen and self.mean > LONGEST_PROBED_SECONDS:
            self.mean, self.deviation = self.mean / REFUTED, self.deviation / REFUTED
        elif seen_at < self.mean:
            self.learn(seen_at)

    def learn(self, duration: float) -> None:
        """Take in how long a job took."""
        self.seen += 1
        ratio = max(duration, 1e-3) / max(self.mean, 1e-3)
        if self.seen == 1 and not 1 / REFUTED < ratio < REFUTED:
            self.mean, self.deviation = duration, duration * FIRST_DEVIATION
            return
        weight = max(LEARNING, 1 / (self.seen + 1))
        error = abs(duration - self.mean)
        self.mean += weight * (duration - self.mean)
        self.deviation += weight * (error - self.deviation)
