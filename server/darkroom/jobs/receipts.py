"""What later jobs need of an accepted call, kept in the journal under the provider's id.

A receipt is a row of the attempts table. A job that opened the request itself is its own receipt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.core.digests import digest
from darkroom.core.errors import Stale
from darkroom.jobs.model import Attempt

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.store import Store


async def remember(
    context: JobContext, attempt: Attempt, provider: str, provider_id: str, what: JsonObject
) -> None:
    """Store ``what`` for an accepted attempt."""
    receipt = Attempt(
        attempt_id=_key(attempt.owner, provider, provider_id),
        owner=attempt.owner,
        operation=attempt.operation,
        request_hash=attempt.request_hash,
        state="accepted",
        provider_id=provider_id,
        evidence=what,
        created_at=context.clock(),
    )
    try:
        await context.record_attempt(receipt)
    except Stale:  # the provider gave the same id before
        return


async def recall(store: Store, owner: str, provider: str, provider_id: str) -> JsonObject | None:
    """Return what is stored under an id; None if the owner's journal does not have it."""
    receipt = await store.attempt(owner, _key(owner, provider, provider_id))
    if receipt is not None:
        return receipt.evidence or {}
    job = await store.find(owner, provider, provider_id)
    return job.arguments if job is not None else None


async def foreign(store: Store, owner: str, provider: str, provider_id: str, *, team: bool) -> bool:
    """Tell whether what the provider gave an id to is another person's, as far as is known here.

    In a ``team`` that shares its keys, what is not in the owner's own journal counts as another's.
    """
    if team:
        return await recall(store, owner, provider, provider_id) is None
    return await store.taken(owner, provider, provider_id)


def _key(owner: str, provider: str, provider_id: str) -> str:
    return digest("receipt", owner, provider, provider_id)
