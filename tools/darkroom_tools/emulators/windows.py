"""A limit of requests in any window of time."""

from __future__ import annotations

from collections import deque


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
