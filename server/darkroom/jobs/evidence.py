"""What may tell the person what became of a job of unknown fate: evidence, never a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from darkroom.errors import CallError, JsonValue, clean
from darkroom.operation import UNREADABLE, Request

if TYPE_CHECKING:
    from darkroom.core import Core
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import Live

LOOKBACK_SECONDS = 2.0
"""A job that did arrive shows in the provider's list by then."""

MOST_CANDIDATES = 3
"""Shown to the person; with more of them the provider's own page tells more."""

EVIDENCE_CHARACTERS = 100
"""Of each text in what a provider says of a lost submission."""


def look_for_evidence(core: Core, live: Live) -> None:
    """Ask the provider, in a task of the machine's, where its module says what to ask."""
    if core.operations[live.job.operation].lookback is not None:
        core.spawn(_look_back, core, live)


async def _look_back(core: Core, live: Live) -> None:
    operation = core.operations[live.job.operation]
    channel = core.channels[live.job.provider]
    if operation.lookback is None:
        return
    await anyio.sleep(LOOKBACK_SECONDS)
    try:
        key = core.vault.key(channel.provider, operation.credential, owner=live.job.owner)
        request = Request(method="GET", path=operation.lookback.path)
        answer = await channel.read(request, key, kind="poll")
        sent_at = live.job.submitted_at or live.job.created_at
        found = operation.lookback.evidence(answer, sent_at) if answer.ok else {}
    except (CallError, *UNREADABLE):
        return
    if isinstance(candidates := found.get("candidates"), list):
        unclaimed = await _unclaimed(core, live.job, candidates)
        found = {**found, "candidates": unclaimed[:MOST_CANDIDATES]}
        if len(unclaimed) > MOST_CANDIDATES:
            found["more_candidates"] = len(unclaimed) - MOST_CANDIDATES
    found = {name: _quoted(value) for name, value in found.items()}
    await core.record(
        live,
        lambda job: (
            job.next(evidence={**(job.evidence or {}), **found})
            if job.status == "unknown"
            else None
        ),
        (),
    )


async def _unclaimed(core: Core, job: Job, candidates: list[JsonValue]) -> list[JsonValue]:
    store = core.registry.store
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
