"""What an emulator remembers: requests, charges, and webhooks that were sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from darkroom_tools.emulators.kit import FaultKind

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class Asked:
    """One request as the emulator saw it. ``status`` is None where no answer was finished."""

    at: float
    operation: str
    method: str
    path: str
    body: bytes
    fault: FaultKind | None = None
    acted: bool = False
    status: int | None = None


Deliver = Callable[[str, bytes, Mapping[str, str]], Awaitable[int]]
"""How a webhook leaves an emulator: address, body, headers; returns the receiver's status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One webhook as it was sent, and the status it was answered with."""

    at: float
    url: str
    body: bytes
    headers: Mapping[str, str]
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One thing the customer pays for; a refund is a charge with a negative amount."""

    at: float
    job_id: str
    amount: float
    unit: str


def remember(record: list[T], entry: T, most: int | None) -> None:
    """Add to a record, and forget what is too old for it; None: nothing is."""
    record.append(entry)
    if most is not None:
        del record[:-most]
