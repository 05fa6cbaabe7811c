"""How many requests a credential's rates leave for a time that is still to come."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from darkroom.providers.provider import Rate

WINDOW_MARGIN_SECONDS = 0.02
"""Added to every window, for clocks that differ in their last digits."""

SHORT_WINDOW_SECONDS = 2.0
"""A shorter window is over before a job is: nothing can be saved up in it."""


def capacity_of(
    rates: Sequence[Rate],
    out: int,
    finished: Sequence[float],
    now: float,
    seconds: float,
    held: float,
) -> float:
    """Return how many requests may leave within a time, by every rate; infinity without rates.

    ``finished`` are the sorted ends of requests, ``out`` those that are under way, ``held`` the part
    of the time in which nothing may leave.
    """
    if held >= seconds:
        return 0
    most = math.inf
    for rate in rates:
        windows, rest = divmod(seconds, rate.seconds + WINDOW_MARGIN_SECONDS)
        counted = len(finished) - bisect_right(
            finished, now + rest - rate.seconds - WINDOW_MARGIN_SECONDS
        )
        most = min(most, rate.requests * (windows + 1) - out - counted)
    return most


def least_distance(rates: Sequence[Rate]) -> float:
    """Return the seconds from one request to the next that the short windows ask for."""
    return max(
        (r.seconds / r.requests for r in rates if r.seconds < SHORT_WINDOW_SECONDS), default=0.0
    )
