"""What may tell the person what became of a job of unknown fate: evidence, never a verdict."""

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
"""A job that did arrive shows in the provider's list by then."""

MOST_CANDIDATES = 3
"""Shown to the person; with more of them the provider's own page tells more."""

EVIDENCE_CHARACTERS = 100
"""Of each text in what a provider says of a lost submission."""


def look_for_evidence(context: JobContext, live: LiveJob) -> None:
    """Ask the provider, in a task of the machine's, where its module says what to ask."""
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
    ]


def _quoted(value: JsonValue) -> JsonValue:
    """Return what a provider said as evidence: short clean text, numbers, and no more levels."""
    if isinstance(value, str):
        return clean(value)[:EVIDENCE_CHARACTERS]
    if isinstance(value, dict):
        return {name: v for name, v in value.items() if isinstance(v, int | float)}
    if isinstance(value, list):
        return [clean(v)[:EVIDENCE_CHARACTERS] for v in value if isinstance(v, str)]
    return value
