"""Telling from what has come whether a job of many requests has ended."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from darkroom.errors import Failure, failure
from darkroom.jobs.model import Progress

if TYPE_CHECKING:
    from darkroom.jobs.model import Attempt, Cost, Job, Output
    from darkroom.jobs.registry import Live
    from darkroom.operation import FanOut, Provider, State
    from darkroom.settings import ProviderSettings

NAMED_CHARACTERS = 150
"""Room in a warning for names of missing items; more are counted."""


def last_sent(live: Live) -> float:
    """Return when the last request of a job left (seconds since the epoch)."""
    sent = live.job.submitted_at or live.job.created_at
    if not live.items:
        return sent
    return max(sent, *(attempt.sent_at or 0.0 for attempt in live.items.values()))


def unsent(live: Live) -> bool:
    """Tell whether requests of a job are still to be sent or answered."""
    return any(each.state in {"prepared", "sent"} for each in (live.items or {}).values())


def deadline(operation: FanOut, settings: ProviderSettings, live: Live) -> float:
    """Return when the job ends with what has come (seconds since the epoch)."""
    return last_sent(live) + operation.deadline_seconds(settings)


def gather(
    operation: FanOut,
    provider: Provider,
    settings: ProviderSettings,
    live: Live,
    state: State,
    now: float,
) -> tuple[State, list[Attempt]]:
    """Return the job's state as it follows from its items, and the attempts that are adopted.

    An item is adopted when its answer was lost and its output is there all the same. The index of
    an output is its item's place; what belongs to no item is another job's. A job that was started
    elsewhere has no items: it ends when as many outputs came as are expected.
    """
    items = live.items or {}
    if not items:
        return _elsewhere(operation, provider, settings, live, state, now), []
    come: dict[str, Output] = {}
    for index, name in enumerate(items):
        found = next((o for o in state.outputs if operation.matches(name, o)), None)
        if found is not None:
            come[name] = replace(found, index=index)
    state = replace(state, outputs=tuple(come.values()))
    adopted = [
        items[name].next(state="accepted", answered_at=now)
        for name in sorted(come)
        if items[name].state == "unknown"
    ]
    for attempt in adopted:
        items[attempt.item or ""] = attempt
    hoped = {name for name, attempt in items.items() if attempt.state != "refused"}
    missing = sorted(hoped - come.keys())
    waiting = missing and now < deadline(operation, settings, live)
    progress = Progress(len(come), len(items))
    if waiting or unsent(live):
        return replace(state, status="running", progress=progress), adopted
    state = replace(state, cost=_cost(live.job, len(items), len(hoped), all_came=not missing))
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


def _cost(job: Job, items: int, hoped: int, *, all_came: bool) -> Cost | None:
    """Return the job's cost as its items make it: what was refused costs nothing."""
    if job.cost is None:
        return None
    amount = job.cost.amount * hoped / items
    return replace(job.cost, amount=amount, basis="exact" if all_came else "estimate")


def _elsewhere(
    operation: FanOut,
    provider: Provider,
    settings: ProviderSettings,
    live: Live,
    state: State,
    now: float,
) -> State:
    expected = operation.expected(live.job.arguments)
    come = len(state.outputs)
    progress = Progress(min(come, expected), expected) if expected is not None else None
    if expected is not None and come >= expected:
        return replace(state, status="completed", progress=progress)
    if now < deadline(operation, settings, live):
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
    named = ""
    for number, name in enumerate(names):
        longer = f"{named}, {name}" if named else name
        if len(longer) > NAMED_CHARACTERS:
            return f"{named or name[:NAMED_CHARACTERS]} and {len(names) - max(number, 1)} more"
        named = longer
    return named
