"""When to ask for a job's state: when an answer is likely.

Durations are learned per operation: a running mean and deviation, begun with the documented time.
The first question comes a little before the job is expected to end, the next ones at a twentieth
of its age, so that the news is a few percent of the job's time late and a long job is not asked
about for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE_OF_AGE = 0.05
EARLY_DEVIATIONS = 1.5
FIRST_DEVIATION = 0.12
"""Deviation taken for an operation before any of its jobs was seen to end, as a share of its time."""

LATE_DEVIATIONS = 2.5
LEARNING = 0.2
"""Weight of the newest observation."""

LONGEST_INTERVAL_SECONDS = 60.0


@dataclass(slots=True)
class PollEstimate:
    """What is known of how long one operation takes. Seconds."""

    mean: float
    deviation: float
    interval: float

    @classmethod
    def of(cls, typical_seconds: float, interval_seconds: float) -> PollEstimate:
        """Begin with the documented time."""
        return cls(typical_seconds, typical_seconds * FIRST_DEVIATION, interval_seconds)

    def first(self) -> float:
        """Return the age at which to ask for the first time."""
        return max(self.interval, self.mean - EARLY_DEVIATIONS * self.deviation)

    def patient(self, spare: float) -> float:
        """Return the age at which to ask for the first time while requests are what is scarce.

        By then nearly every job has ended, so that no question is wasted; ``spare`` is how long a
        job may be left alone before its concurrency slot is scarcer than the requests.
        """
        late = self.mean + LATE_DEVIATIONS * self.deviation
        return max(self.first(), min(late, spare))

    def next(self, age: float) -> float:
        """Return the seconds from now, at ``age``, until the next question.

        Never less than the interval: clocks differ, and the first question may be asked a
        microsecond early.
        """
        wait = self.first() - age
        if wait >= self.interval:
            return wait
        return min(max(self.interval, SHARE_OF_AGE * age), LONGEST_INTERVAL_SECONDS)

    def observe(self, seen_at: float, missed_at: float | None) -> None:
        """Take in that a job had ended at the age ``seen_at``, and had not at ``missed_at``.

        A job that was not asked about before it ended tells only that it took no longer.
        """
        if missed_at is not None:
            self.learn((missed_at + seen_at) / 2)
        elif seen_at < self.mean:
            self.learn(seen_at)

    def learn(self, duration: float) -> None:
        """Take in how long a job took."""
        error = abs(duration - self.mean)
        self.mean += LEARNING * (duration - self.mean)
        self.deviation += LEARNING * (error - self.deviation)
