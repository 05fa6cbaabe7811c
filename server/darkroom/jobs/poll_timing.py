"""When to poll a job: when it has probably ended.

The duration is learned for each operation as a running mean and deviation; the documented time is
the first estimate. The first poll comes a little before the expected end. After that the interval is
a twentieth of the job's age, so that the end is noticed a few percent late and a job that takes long
is polled less and less often.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARE_OF_AGE = 0.05
EARLY_DEVIATIONS = 1.5
FIRST_DEVIATION = 0.12
"""Assumed deviation, as a share of the duration, before any job of the operation has ended."""

LATE_DEVIATIONS = 2.5
LEARNING = 0.2
"""Weight of the newest observation."""

LONGEST_INTERVAL_SECONDS = 60.0


@dataclass(slots=True)
class PollEstimate:
    """The estimated duration of one operation, in seconds."""

    mean: float
    deviation: float
    interval: float

    @classmethod
    def of(cls, typical_seconds: float, interval_seconds: float) -> PollEstimate:
        """Return an estimate from the documented time."""
        return cls(typical_seconds, typical_seconds * FIRST_DEVIATION, interval_seconds)

    def first(self) -> float:
        """Return the age of a job at its first poll."""
        return max(self.interval, self.mean - EARLY_DEVIATIONS * self.deviation)

    def patient(self, spare: float) -> float:
        """Return the age of a job at its first poll while requests are scarce.

        At this age nearly every job has ended, so that no poll is wasted. ``spare`` is how long a
        job may go without a poll before its concurrency slot is scarcer than the requests.
        """
        late = self.mean + LATE_DEVIATIONS * self.deviation
        return max(self.first(), min(late, spare))

    def next(self, age: float) -> float:
        """Return the seconds until the next poll of a job of this ``age``.

        Never less than the interval, because clocks differ and a poll may be slightly early.
        """
        wait = self.first() - age
        if wait >= self.interval:
            return wait
        return min(max(self.interval, SHARE_OF_AGE * age), LONGEST_INTERVAL_SECONDS)

    def observe(self, seen_at: float, missed_at: float | None) -> None:
        """Learn that a job had ended at the age ``seen_at`` and had not ended at ``missed_at``.

        If the first poll found it ended, it is only known that it took no longer.
        """
        if missed_at is not None:
            self.learn((missed_at + seen_at) / 2)
        elif seen_at < self.mean:
            self.learn(seen_at)

    def learn(self, duration: float) -> None:
        """Learn how long a job took."""
        error = abs(duration - self.mean)
        self.mean += LEARNING * (duration - self.mean)
        self.deviation += LEARNING * (error - self.deviation)
