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

LEARNING = 0.2
"""Weight of the newest observation."""

LONGEST_INTERVAL_SECONDS = 60.0


@dataclass(slots=True)
class Rhythm:
    """What is known of how long one operation takes. Seconds."""

    mean: float
    deviation: float
    interval: float

    @classmethod
    def of(cls, typical_seconds: float, interval_seconds: float) -> Rhythm:
        """Begin with the documented time."""
        return cls(typical_seconds, typical_seconds * FIRST_DEVIATION, interval_seconds)

    def first(self) -> float:
        """Return the age at which to ask for the first time."""
        return max(self.interval, self.mean - EARLY_DEVIATIONS * self.deviation)

    def next(self, age: float) -> float:
        """Return the seconds from now, at ``age``, until the next question."""
        if age < self.first():
            return self.first() - age
        return min(max(self.interval, SHARE_OF_AGE * age), LONGEST_INTERVAL_SECONDS)

    def learn(self, duration: float) -> None:
        """Take in how long a job took."""
        error = abs(duration - self.mean)
        self.mean += LEARNING * (duration - self.mean)
        self.deviation += LEARNING * (error - self.deviation)
