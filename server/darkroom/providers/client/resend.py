"""How a request is sent again: after which time, how many times, and with which key.

`outcomes.judge` decides what may be sent again at all; nothing here changes that rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from darkroom.providers.client.outcomes import Later, Refused

if TYPE_CHECKING:
    from darkroom.core.errors import Failure
    from darkroom.providers.client.outcomes import Outcome
    from darkroom.providers.credentials import Credentials, Key

MOST_STEPS = 64
"""Limit of the exponent, so that the power does not overflow; the wait is at its maximum before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before each further try, in seconds, and how many tries there are."""

    first: float
    factor: float = 2.0
    longest: float = math.inf
    tries: float = math.inf
    """Number of tries, including the first one."""

    def wait(self, tried: int) -> float:
        """Return the seconds to wait after the given try (the first is 1)."""
        steps = min(max(tried - 1, 0), MOST_STEPS)
        return min(self.first * self.factor**steps, self.longest)

    def over(self, tried: int) -> bool:
        """Tell whether the given try (the first is 1) was the last one."""
        return tried >= self.tries


READ = Backoff(first=0.5, longest=5.0, tries=3)
"""A read within a call: three tries. The provider may ask for a longer wait, up to ``longest``."""

NEVER_LEFT = Backoff(first=1.0, tries=3)
"""A request that starts or adds to a job and certainly never arrived."""

ITEM_REFUSED_FOR_NOW = Backoff(first=5.0, factor=1.0, tries=3)
"""One request of a job of many requests that was refused for now without saying when to try again."""


def newer_key(credentials: Credentials, key: Key, failure: Failure) -> Key | None:
    """Return the key that has replaced ``key``, if ``failure`` says that ``key`` was not accepted.

    A key can be replaced at any time, by this process or another one.
    """
    return credentials.renewed(key) if failure.code == "auth_failed" else None


def explained(credentials: Credentials, key: Key, failure: Failure) -> Failure:
    """Say where a newer key may be, if ``failure`` says that ``key`` was not accepted."""
    said = credentials.said_of(key) if failure.code == "auth_failed" else None
    return failure if said is None else replace(failure, next_step=said)


def with_newer_key(credentials: Credentials, key: Key, outcome: Outcome) -> Outcome:
    """If the refused key was replaced meanwhile, turn the refusal into "send it again at once"."""
    match outcome:
        case Refused(failure) if newer_key(credentials, key, failure) is not None:
            return Later(failure, 0.0, key_replaced=True)
        case Refused(failure):
            return Refused(explained(credentials, key, failure))
        case _:
            return outcome
