"""When a request is sent again: how long to wait, how often to try, and with which key.

What may be sent again at all is decided in `outcomes.judge`; nothing here loosens that rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from darkroom.providers.client.outcomes import Later, Refused

if TYPE_CHECKING:
    from darkroom.core.errors import Failure
    from darkroom.providers.client.outcomes import Outcome
    from darkroom.providers.credentials import Credentials, Key

MOST_STEPS = 64
"""A wait has long reached its limit by then; the power stays a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before each new try, and how many tries there are. Seconds."""

    first: float
    factor: float = 2.0
    longest: float = math.inf
    tries: float = math.inf
    """Tries in all, the first one included."""

    def wait(self, tried: int) -> float:
        """Return how long to wait after the try with this number (from 1)."""
        steps = min(max(tried - 1, 0), MOST_STEPS)
        return min(self.first * self.factor**steps, self.longest)

    def over(self, tried: int) -> bool:
        """Tell whether there is no try left after the one with this number (from 1)."""
        return tried >= self.tries


READ = Backoff(first=0.5, longest=5.0, tries=3)
"""A read within a call: three tries. The provider may ask for a longer wait, up to ``longest``."""

NEVER_LEFT = Backoff(first=1.0, tries=3)
"""A request that starts or adds to a job and certainly never arrived."""

ITEM_REFUSED_FOR_NOW = Backoff(first=5.0, factor=1.0, tries=3)
"""One of the many requests of a job, when the provider says "later" and not when."""


def newer_key(credentials: Credentials, key: Key, failure: Failure) -> Key | None:
    """Return the key that has replaced ``key``, if ``failure`` says that ``key`` was not accepted.

    A key may be replaced at any moment, here or by another process.
    """
    return credentials.renewed(key) if failure.code == "auth_failed" else None


def with_newer_key(credentials: Credentials, key: Key, outcome: Outcome) -> Outcome:
    """Turn the refusal of a key that was replaced meanwhile into "send it again at once"."""
    match outcome:
        case Refused(failure) if newer_key(credentials, key, failure) is not None:
            return Later(failure, 0.0, key_replaced=True)
        case _:
            return outcome
