"""What a start returns, what a job is called, and what is said about calls made before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from darkroom.jobs.registry import LiveJob

IDENTICAL = (
    "an identical call was made before: this is its job, nothing new was started; "
    "to get several, use copies of start_batch or vary the arguments"
)
MOST_NAMED = 20
"""Maximum number of items that an error names."""

SEND_ALL_THE_SAME = "Send this call too, and perhaps pay twice?"

STILL_UNKNOWN = "an identical call is of unknown fate; it was not sent again"


@dataclass(frozen=True, slots=True)
class Started:
    """A job, and warnings for the caller."""

    live: LiveJob
    warnings: tuple[str, ...] = ()
    identical: bool = False
    """Whether an earlier identical call, without a key or with another one, had started it."""

    known: bool = False
    """An earlier call had started it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a job is called: by the batch that it is an item of, or by whoever starts it alone."""

    job_id: str | None = None
    batch_id: str | None = None
    item: str | None = None
    folder: str | None = None
    idempotency_key: str | None = None
    created_at: float | None = None
