"""Rows for tests, and ways to run a store without threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from darkroom.jobs.model import Attempt, Intent, Job
from darkroom.jobs.spending import Entry
from darkroom.jobs.store import Horizon

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")

NOON = 1_795_000_000.25
"""A time (seconds since the epoch) around which the rows of tests are made."""


async def inline(work: Callable[[], T], /) -> T:
    """Run the work here: threads and virtual time do not go together."""
    return work()


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, without an event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a store with an inline executor waited")


def until(at: float) -> Horizon:
    """Return the horizon that forgets all that is older than a time."""
    return Horizon(at, at)


def an_entry(entry_id: str, **changes: object) -> Entry:
    """Return an entry of the ledger."""
    fields: dict[str, object] = {
        "entry_id": entry_id,
        "owner": "local",
        "provider": "zsky",
        "operation": "zsky_start_image",
        "unit": "images",
        "amount": 1.0,
        "basis": "estimate",
        "money": 0.05,
        "state": "spent",
        "at": NOON,
    }
    return Entry(**fields | changes)  # pyright: ignore[reportArgumentType] -- given by the tests


def a_job(job_id: str = "job-1", **changes: object) -> Job:
    """Return a job that is worth a row."""
    fields: dict[str, object] = {
        "job_id": job_id,
        "owner": "local",
        "provider": "zsky",
        "operation": "zsky_start_image",
        "status": "queued",
        "arguments": {"prompt": "a red chair"},
        "intent": "intent-1",
        "fingerprint": "key-1",
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Job(**fields | changes)  # pyright: ignore[reportArgumentType] -- given by the tests


def an_intent(job_id: str = "job-9", **changes: object) -> Intent:
    """Return what is asked for before a row is written."""
    fields: dict[str, object] = {
        "job_id": job_id,
        "owner": "local",
        "provider": "zsky",
        "operation": "zsky_start_image",
        "arguments": {"prompt": "a red chair"},
        "intent": "intent-1",
        "fingerprint": "key-1",
        "created_at": NOON,
        "holder": "me",
    }
    return Intent(**fields | changes)  # pyright: ignore[reportArgumentType] -- given by the tests


def an_attempt(attempt_id: str = "attempt-1", **changes: object) -> Attempt:
    """Return an attempt that is worth a row."""
    fields: dict[str, object] = {
        "attempt_id": attempt_id,
        "owner": "local",
        "operation": "zsky_start_image",
        "request_hash": "hash-1",
        "job_id": "job-1",
        "created_at": NOON,
    }
    return Attempt(**fields | changes)  # pyright: ignore[reportArgumentType] -- given by the tests


def everyone_is_dead(holder: str) -> bool:
    """Tell that a holder is dead, whoever it is."""
    return bool(holder)


def everyone_is_alive(holder: str) -> bool:
    """Tell that a holder is alive, whoever it is."""
    return not holder
