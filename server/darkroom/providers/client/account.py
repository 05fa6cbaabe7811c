"""What a provider says of an account, kept for each credential.

Three things are learned from answers, whoever asked: limits that are lower than the documented ones,
that nothing is taken for now (429), and that nothing is taken from this account at all (a key that
is not accepted, no credits, suspended). The rate limiter and the queue of submissions act on it.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import anyio

from darkroom.providers.provider import Limits, Rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from darkroom.core.errors import Code, Failure
    from darkroom.providers.messages import Response

ACCOUNT_WIDE: Mapping[Code, float] = {
    "auth_failed": 3_600.0,
    "insufficient_credits": 900.0,
    "suspended": 3_600.0,
}
"""Refusals that every other request with the credential would meet; how long (seconds) nothing is
sent after the first one. Then one request tries again, at a distance that grows."""

FIRST_LOOK_SECONDS = 60.0
"""The same for looks at jobs that run: their results' addresses may die."""

LONGEST_DISTANCE_SECONDS = 3_600.0
"""Between two tries, unless the provider says that it takes longer."""

EAGER_SECONDS = 60.0
"""A call of the person's own tries a key or an empty account again after this: both can be mended."""

TRY_SECONDS = 90.0
"""How long one try may take before another is made."""

FIRST_BACKOFF_SECONDS = 3.0
GROWING_FROM = 2
"""From so many refusals in a row on, one submission at a time tries."""

AGAIN_SECONDS = 3.0
TOLD_TIMES = 3
"""So often in a row exactly the time is waited that the provider asked for; then at least ours."""

SHORTEST_WAIT_SECONDS = 1.0
"""A shorter Retry-After (0, negative, past) says nothing."""

LONGEST_REFUSED_SECONDS = 25 * 3_600.0
"""A provider that takes nothing for so long (more than any day's cap) is reported as an error."""

GIVING_UP_SECONDS = 60.0
"""For so long everything that waits ends with that error; after this the provider is asked anew."""

RAISE_SECONDS = 60.0
RAISE_FACTOR = 1.25
"""A lowered limit is raised by this factor, once in `RAISE_SECONDS`."""

FORGET_SECONDS = 600.0
"""A limit that answers no longer mention is raised towards the documented one after this."""

LONGEST_WINDOW_SECONDS = 3_600.0
LIMIT_HEADERS = ("ratelimit-limit", "x-ratelimit-limit")
_LIMIT = re.compile(r"\s*(\d{1,9})\s*(?:;\s*w\s*=\s*\"?(\d{1,9})\"?\s*)?$")


def said_limits(headers: Mapping[str, str], documented: Limits) -> dict[float, int]:
    """Return what the headers say: seconds of a window -> requests in it.

    ``30, 30;w=60, 1;w=1`` names its windows. A number alone is meant for the longest documented
    window; where none is documented it says nothing.
    """
    for name in LIMIT_HEADERS:
        matches = [_LIMIT.match(part) for part in headers.get(name, "").split(",")]
        found = [(int(m[1]), float(m[2]) if m[2] else None) for m in matches if m is not None]
        windows = {w: n for n, w in found if w and n and w <= LONGEST_WINDOW_SECONDS}
        if windows:
            return windows
        if found and found[0][0] and found[0][1] is None and documented.rates:
            return {max(rate.seconds for rate in documented.rates): found[0][0]}
    return {}


class LearnedLimits:
    """The limits to keep to: the documented ones, or lower ones where the provider said so."""

    def __init__(self, documented: Limits) -> None:
        self._documented = documented
        self._most = max((rate.requests for rate in documented.rates), default=0)
        self._target: dict[float, int] = {}
        self._lowered: dict[float, int] = {}
        self._heard_at = -math.inf
        self._raised_at = -math.inf

    def hear(self, headers: Mapping[str, str]) -> Limits | None:
        """Take in what an answer says; return the limits if they are others now."""
        said, now = said_limits(headers, self._documented), anyio.current_time()
        if said:
            self._heard_at = now
            self._target = {
                seconds: requests
                for seconds, requests in said.items()
                if requests < self._cap(seconds)
            }
        elif now - self._heard_at >= FORGET_SECONDS:
            self._target = {}
        before = dict(self._lowered)
        for seconds, requests in self._target.items():
            if requests < self._lowered.get(seconds, self._cap(seconds)):
                self._lowered[seconds] = requests
                self._raised_at = now
        if now - self._raised_at >= RAISE_SECONDS:
            self._raise(now)
        return self.limits if self._lowered != before else None

    def _raise(self, now: float) -> None:
        for seconds, requests in list(self._lowered.items()):
            cap = self._cap(seconds)
            most = self._target.get(seconds, cap)
            raised = min(most, max(requests + 1, math.floor(requests * RAISE_FACTOR)))
            if raised == requests:
                continue
            self._raised_at = now
            if raised >= cap:
                del self._lowered[seconds]
            else:
                self._lowered[seconds] = raised

    def _cap(self, seconds: float) -> int:
        """Return the most requests in a window that the documented limits would ever allow."""
        known = {rate.seconds: rate.requests for rate in self._documented.rates}
        return known.get(seconds, self._most)

    @property
    def limits(self) -> Limits:
        """What holds now."""
        rates = {rate.seconds: rate.requests for rate in self._documented.rates} | self._lowered
        return replace(
            self._documented,
            rates=tuple(Rate(requests, seconds) for seconds, requests in rates.items()),
        )


class Account:
    """What is known of one credential's account. Times are on the loop's clock."""

    def __init__(self, documented: Limits, suspended_seconds: float | None = None) -> None:
        self.learned = LearnedLimits(documented)
        self.counters: Response | None = None
        """The provider's counters of the month, as they were last read."""
        self.counters_at: float | None = None
        """When they were last asked for (seconds since the epoch)."""
        self.counters_since = 0.0
        """Since when a start has needed them that had no request to spare."""
        self._suspended_seconds = suspended_seconds
        self._refusal: Failure | None = None
        self._refused_at = self._until = self._look_until = -math.inf
        self._looks = self._starts = 0
        self._trying: Literal["look", "start"] | None = None
        self._put_offs = 0
        self._put_off_since: float | None = None
        self._put_off_until = self._giving_up_until = self._trial_until = -math.inf

    # --- nothing is taken from this account ---

    @property
    def refusal(self) -> Failure | None:
        """Why nothing is taken from the account; None: as far as is known it is well."""
        return self._refusal

    @property
    def left(self) -> float:
        """The seconds until a request may try again."""
        return max(0.0, self._until - anyio.current_time())

    def wait(self, *, look: bool = False, eager: bool = False) -> float:
        """Return the seconds until the caller may send a request; 0: now, and it is the try.

        ``look``: it only reads, which no credits are needed for. ``eager``: a person waits for it.
        """
        refusal, now = self._refusal, anyio.current_time()
        if refusal is None or (look and refusal.code == "insufficient_credits"):
            return 0.0
        may = self._look_until if look else self._until
        if eager and refusal.code != "suspended" and self._trying is None:
            may = min(may, self._refused_at + EAGER_SECONDS)
        if now < may:
            return may - now
        self._trying = "look" if look else "start"
        if look:
            self._look_until = now + TRY_SECONDS
        else:
            self._until = now + TRY_SECONDS
        return 0.0

    def refused(self, error: Failure) -> None:
        """Take in a refusal that is meant for the account."""
        now, known = anyio.current_time(), self._refusal
        if known is not None and known.code == error.code and self._trying is None:
            return  # it was on its way already when the first one came, or a chat asked
        if known is None or known.code != error.code:
            self._looks = self._starts = 0
        self._looks += 1
        self._look_until = now + min(
            FIRST_LOOK_SECONDS * 2 ** min(self._looks - 1, 20), LONGEST_DISTANCE_SECONDS
        )
        if self._trying != "look" or self._starts == 0:
            self._starts += 1
            growing = ACCOUNT_WIDE[error.code] * 2 ** min(self._starts - 1, 20)
            seconds = min(growing, LONGEST_DISTANCE_SECONDS)
            if error.code == "suspended" and self._starts == 1:
                seconds = self._suspended_seconds or seconds
            self._until = now + seconds
        self._refusal = replace(error, retry_after_seconds=None)
        self._refused_at, self._trying = now, None

    def answered(self, *, charged: bool) -> None:
        """Take in a success; ``charged``: of a request that needs credits."""
        if self._refusal is not None and (charged or self._refusal.code != "insufficient_credits"):
            self._refusal, self._trying = None, None
            self._until = self._look_until = -math.inf
        if charged:
            self._put_offs, self._put_off_since = 0, None

    # --- nothing is taken for now ---

    def put_off(self, said: float | None) -> float:
        """Take in a 429 to a submission; return the seconds for which nothing is submitted.

        ``said``: what the provider asked to wait. A refusal that repeats grows the distance.
        """
        now = anyio.current_time()
        if now >= self._put_off_until:
            self._put_offs += 1
            if self._put_off_since is None:
                self._put_off_since = now
        self._trial_until = -math.inf
        growing = FIRST_BACKOFF_SECONDS * 2 ** min(self._put_offs - 1, 20)
        wait = growing
        if said is not None and said >= SHORTEST_WAIT_SECONDS:
            wait = said if self._put_offs <= TOLD_TIMES else max(said, growing)
        wait = min(wait, LONGEST_DISTANCE_SECONDS)
        self._put_off_until = max(self._put_off_until, now + wait)
        if self._put_off_since is not None and now - self._put_off_since >= LONGEST_REFUSED_SECONDS:
            self._giving_up_until = now + GIVING_UP_SECONDS
            self._put_offs, self._put_off_since, self._put_off_until = 0, None, -math.inf
        return wait

    def pause(self) -> float:
        """Return the seconds to wait before a submission; 0: now.

        After a second refusal in a row one submission tries, and the others wait for its answer.
        """
        now = anyio.current_time()
        if self._put_offs < GROWING_FROM:
            return 0.0
        if now < self._trial_until:
            return min(AGAIN_SECONDS, self._trial_until - now)
        self._trial_until = now + TRY_SECONDS
        return 0.0

    @property
    def giving_up(self) -> bool:
        """Tell whether the provider has taken nothing for so long that it is an error now."""
        return anyio.current_time() < self._giving_up_until
