"""Limits of requests: in any window of time, in windows of the clock, in a bucket that refills."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol


class Window(Protocol):
    """A limit of requests."""

    def wait(self, now: float) -> float:
        """Count one request; when it is one too many, return after how many seconds it is not."""
        ...


class SlidingWindow:
    """Lets at most ``most`` requests into any ``seconds``, wherever the window is laid.

    This is the strictest reading of "so many a minute": who keeps to it keeps to a fixed window
    and to a refilling bucket of that size, too.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._taken: deque[float] = deque()

    def wait(self, now: float) -> float:
        """Count one request; when it is one too many, return after how many seconds it is not."""
        while self._taken and self._taken[0] + self._seconds <= now:
            self._taken.popleft()
        if len(self._taken) >= self._most:
            return self._taken[0] + self._seconds - now
        self._taken.append(now)
        return 0.0


class FixedWindow:
    """Lets at most ``most`` requests into each window of the clock; windows begin at multiples."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._number = -math.inf
        self._taken = 0

    def wait(self, now: float) -> float:
        """Count one request; when it is one too many, return after how many seconds it is not."""
        number = now // self._seconds
        if number != self._number:
            self._number, self._taken = number, 0
        if self._taken >= self._most:
            return (number + 1) * self._seconds - now
        self._taken += 1
        return 0.0


class Gcra:
    """The generic cell rate algorithm: a bucket of ``most`` requests that refills evenly."""

    def __init__(self, most: int, seconds: float) -> None:
        self._apart = seconds / most
        self._tolerance = seconds - self._apart
        self._expected_at = -math.inf
        """The theoretical arrival time of the next request."""

    def wait(self, now: float) -> float:
        """Count one request; when it is one too many, return after how many seconds it is not."""
        expected = max(self._expected_at, now)
        if expected - now > self._tolerance + 1e-6:  # sums of the distance are not exact
            return expected - now - self._tolerance
        self._expected_at = expected + self._apart
        return 0.0
