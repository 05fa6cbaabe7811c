"""Telling from what has come whether a job of many requests has ended."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from darkroom.errors import Failure, failure
from darkroom.jobs.model import Progress

if TYPE_CHECKING:
    from darkroom.jobs.model import Attempt, Job
    from darkroom.jobs.registry import Live
    from darkroom.operation import FanOut, Provider, State
    from darkroom.settings import ProviderSettings

MOST_NAMED = 20
"""Missing items named in a warning; more are counted."""


def deadline(operation: FanOut, settings: ProviderSettings, job: Job) -> float:
    """Return when the job ends with what has come (seconds since the epoch)."""
    return (job.submitted_at or job.created_at) + operation.deadline_seconds(settings)


def gather(
    operation: FanOut,
    provider: Provider,
    settings: ProviderSettings,
    live: Live,
    state: State,
    now: float,
) -> tuple[State, list[Attempt]]:
    """Return the job's state as it follows from its items, and the attempts that are adopted.

    An item is adopted when its answer was lost and its output is there all the same. A job that
    was started elsewhere has no items: it ends when as many outputs came as are expected.
    """
    items = live.items or {}
    if not items:
        return _elsewhere(operation, provider, settings, live.job, state, now), []
    come = {name for name in items if any(operation.matches(name, o) for o in state.outputs)}
    adopted = [
        items[name].next(state="accepted", answered_at=now)
        for name in sorted(come)
        if items[name].state == "unknown"
    ]
    for attempt in adopted:
        items[attempt.item or ""] = attempt
    states = {attempt.state for attempt in items.values()}
    hoped = {name for name, attempt in items.items() if attempt.state != "refused"}
    missing = sorted(hoped - come)
    waiting = missing and now < deadline(operation, settings, live.job)
    progress = Progress(len(come), len(items))
    if waiting or states & {"prepared", "sent"}:
        return replace(state, status="running", progress=progress), adopted
    warnings = list(state.warnings)
    refused = sorted(items.keys() - hoped)
    if missing:
        warnings.append(f"never came before the deadline: {_named(missing)}")
    if refused:
        warnings.append(f"refused by {provider.title}: {_named(refused)}")
    if come:
        ended = replace(state, status="completed", progress=progress, warnings=tuple(warnings))
        return ended, adopted
    error = live.job.error if not missing else _timeout(provider)
    return replace(state, status="failed", progress=progress, failure=error), adopted


def _elsewhere(
    operation: FanOut,
    provider: Provider,
    settings: ProviderSettings,
    job: Job,
    state: State,
    now: float,
) -> State:
    expected = operation.expected(job.arguments)
    come = len(state.outputs)
    progress = Progress(min(come, expected), expected) if expected is not None else None
    if expected is not None and come >= expected:
        return replace(state, status="completed", progress=progress)
    if now < deadline(operation, settings, job):
        return replace(state, status="running", progress=progress)
    if not come:
        return replace(state, status="failed", progress=progress, failure=_timeout(provider))
    missing = f"{expected - come} images never came before the deadline" if expected else ""
    warnings = (*state.warnings, missing) if missing else state.warnings
    return replace(state, status="completed", progress=progress, warnings=warnings)


def _timeout(provider: Provider) -> Failure:
    return failure(
        "timeout",
        provider.title,
        next_step="look at the workflow and the pictures' addresses, then start again",
    )


def _named(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
