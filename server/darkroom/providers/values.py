"""What a provider says about a job: status, cost, progress and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Status = Literal[
    "queued", "submitting", "running", "completed", "failed", "blocked", "cancelled", "unknown"
]
ShownStatus = Literal["queued", "running", "completed", "failed", "blocked", "cancelled", "unknown"]
"""A status as the model sees it: all but the internal ``submitting``."""


ENDED: frozenset[Status] = frozenset({"completed", "failed", "blocked", "cancelled"})


Unit: TypeAlias = str
"""What a provider counts; a module declares its own: ``credits``, ``images``, ``videos``, ``usd``."""


Basis = Literal["exact", "estimate", "unknown"]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job costs, in the provider's unit."""

    amount: float
    unit: Unit
    basis: Basis = "estimate"


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a job is done, if the provider says so."""

    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One result of a job. Times are seconds since the epoch."""

    index: int
    url: str | None = None
    expires_at: float | None = None
    media_type: str | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    name: str | None = None
    file: str | None = None
    sha256: str | None = None
    fetch_error: str | None = None
    """The error code of the last download, if it failed."""
