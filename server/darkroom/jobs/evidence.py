"""Evidence about an unknown job, for the person who settles it. It never settles the job itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import CallError, clean
from darkroom.providers.messages import UNREADABLE, Request

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonValue
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob

LOOKBACK_SECONDS = 2.0
"""Time after which a job that was accepted appears in the provider's list."""

MOST_CANDIDATES = 3
"""Maximum number of candidates in the evidence."""

EVIDENCE_CHARACTERS = 100
"""Maximum length of each text in the evidence."""


def look_for_evidence(context: JobContext, live: LiveJob) -> None:
    """Ask the provider for evidence in a task of the engine, if its module declares how."""
    if context.operations[live.job.operation].lookback is not None:
        context.spawn(_look_back, context, live)


async def _look_back(context: JobContext, live: LiveJob) -> None:
    operation = context.operations[live.job.operation]
    client = context.clients[live.job.provider]
    if operation.lookback is None:
        return
    await anyio.sleep(LOOKBACK_SECONDS)
    try:
        key = context.credentials.key(client.provider, operation.credential, owner=live.job.owner)
        request = Request(method="GET", path=operation.lookback.path)
        response = await client.read(request, key, kind="poll")
        sent_at = live.job.submitted_at or live.job.created_at
        found = operation.lookback.evidence(response, sent_at) if response.ok else {}
    except (CallError, *UNREADABLE):
        return
    if isinstance(candidates := found.get("candidates"), list):
        unclaimed = await _unclaimed(context, live.job, candidates)
        found = {**found, "candidates": unclaimed[:MOST_CANDIDATES]}
        if len(unclaimed) > MOST_CANDIDATES:
            found["more_candidates"] = len(unclaimed) - MOST_CANDIDATES
    found = {name: _quoted(value) for name, value in found.items()}
    await context.record(
        live,
        lambda job: (
            job.next(evidence={**(job.evidence or {}), **found})
            if job.status == "unknown"
            else None
        ),
        (),
    )


async def _unclaimed(context: JobContext, job: Job, candidates: list[JsonValue]) -> list[JsonValue]:
    store = context.registry.store
    return [
        candidate
        for candidate in candidates
        if await store.find(job.owner, job.provider, str(candidate)) is None
        and not await store.taken(job.owner, job.provider, str(candidate))
    ]


def _quoted(value: JsonValue) -> JsonValue:
    """Return a provider's evidence with cleaned and shortened text and limited nesting."""
    if isinstance(value, str):
        return clean(value)[:EVIDENCE_CHARACTERS]
    if isinstance(value, dict):
        return {name: v for name, v in value.items() if isinstance(v, int | float)}
    if isinstance(value, list):
        return [clean(v)[:EVIDENCE_CHARACTERS] for v in value if isinstance(v, str)]
    return value
