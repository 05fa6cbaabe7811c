"""The state of a job of many requests, from the outputs that have arrived."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from darkroom.core.errors import clean, failure
from darkroom.jobs.bounds import at_most
from darkroom.jobs.matching import by_likeness, by_name
from darkroom.providers.values import Progress

if TYPE_CHECKING:
    from darkroom.jobs.model import Attempt, Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.messages import State
    from darkroom.providers.operations import FanOutOperation
    from darkroom.providers.provider import Provider
    from darkroom.providers.settings import ProviderSettings
    from darkroom.providers.values import Cost, Output

MOST_ELSEWHERE = 1_000
"""Results of a job that was started elsewhere, where nothing says how many are expected."""

WITHDRAWN = "withdrawn"
"""In the evidence of an attempt that was given up, because the job was cancelled."""

NAMED_CHARACTERS = 150
"""Characters for names of items in a warning; further items are only counted."""


def last_sent(live: LiveJob) -> float:
    """Return when the last request of a job was sent (seconds since the epoch)."""
    sent = live.job.submitted_at or live.job.created_at
    if not live.items:
        return sent
    return max(sent, *(attempt.sent_at or 0.0 for attempt in live.items.values()))


def unsent(live: LiveJob) -> bool:
    """Tell whether requests of a job are still to be sent or answered."""
    return any(each.state in {"prepared", "sent"} for each in (live.items or {}).values())


def withdrawable(live: LiveJob) -> bool:
    """Tell whether some of a job's requests have not been sent yet."""
    return any(each.state == "prepared" for each in (live.items or {}).values())


def deadline(operation: FanOutOperation, settings: ProviderSettings, live: LiveJob) -> float:
    """Return when the job ends with the outputs that it has (seconds since the epoch)."""
    return last_sent(live) + operation.deadline_seconds(settings)


def gather(
    operation: FanOutOperation,
    provider: Provider,
    settings: ProviderSettings,
    live: LiveJob,
    state: State,
    now: float,
    *,
    alone: bool = False,
) -> tuple[State, list[Attempt]]:
    """Return the job's state from its items and outputs, and the attempts that are now settled.

    An item whose answer was lost is accepted if its output is there. The index of an output is the
    position of its item.

    ``alone``: no other job has results under this id, so that results without an item's name belong
    to this job, too. Such a job ends when all outputs have arrived if it opened the id itself,
    otherwise at the deadline. A job that was started elsewhere has no items; it ends when the
    expected number of outputs has arrived.
    """
    items = live.items or {}
    if not items:
        return _elsewhere(operation, provider, settings, live, state, now), []
    come, left = by_name(operation, list(items), state.outputs)
    hoped = [name for name, attempt in items.items() if attempt.state != "refused"]
    missing = [name for name in hoped if name not in come]
    unclaimed = left if alone else []
    whole = live.attempt is not None and len(unclaimed) >= len(missing)
    waiting = missing and not whole and now < deadline(operation, settings, live)
    progress = Progress(len(come) + min(len(unclaimed), len(missing)), len(items))
    warnings = list(state.warnings)
    going_on = waiting or unsent(live)
    if not going_on and missing and unclaimed:
        accepted = [name for name in missing if items[name].state == "accepted"]
        uncertain = [name for name in missing if name not in accepted]
        if len(unclaimed) <= len(accepted):  # then none is needed to explain what came
            uncertain.clear()
        near, in_order = by_likeness(operation, [*accepted, *uncertain], unclaimed)
        come |= near | in_order
        missing = [name for name in missing if name not in come]
        warnings += _loosely("by the nearest name", near) + _loosely("by their order", in_order)
    places = {name: index for index, name in enumerate(items)}
    outputs = [replace(come[name], index=places[name]) for name in items if name in come]
    adopted = [
        items[name].next(state="accepted", answered_at=now)
        for name in sorted(come)
        if items[name].state == "unknown"
    ]
    for attempt in adopted:
        live.keep(attempt)
    state = replace(state, outputs=tuple(outputs), progress=progress)
    if going_on:
        return replace(state, status="running"), adopted
    withdrawn = sorted(name for name, each in items.items() if _withdrawn(each))
    refused = sorted(items.keys() - set(hoped) - set(withdrawn))
    if missing:
        warnings.append(f"never came before the deadline: {_named(sorted(missing))}")
    if refused:
        warnings.append(f"refused by {provider.title}: {_named(refused)}")
    if withdrawn:
        warnings.append(f"cancelled before they were sent: {_named(withdrawn)}")
    if missing and not come:
        return _unseen(operation, provider, state), adopted
    cost = _cost(live.job, len(items), len(hoped), all_came=not missing)
    state = replace(state, cost=cost)
    if come:
        late = bool(missing)
        return replace(state, status="completed", warnings=tuple(warnings), concluded=late), adopted
    if withdrawn and not refused:
        return replace(state, status="cancelled"), adopted
    return replace(state, status="failed", failure=live.job.error), adopted


def _withdrawn(attempt: Attempt) -> bool:
    return attempt.state == "refused" and (attempt.evidence or {}).get("code") == WITHDRAWN


def _loosely(how: str, matched: dict[str, Output]) -> list[str]:
    """Return a warning about results that were assigned to items without having their names."""
    if not matched:
        return []
    pairs = [f"{name} = {clean(output.name)}" for name, output in matched.items()]
    return [f"matched {how}: {_named(pairs)}"]


def _cost(job: Job, items: int, hoped: int, *, all_came: bool) -> Cost | None:
    """Return the job's cost as the sum of its items; a refused item costs nothing."""
    if job.cost is None:
        return None
    amount = job.cost.amount * hoped / items
    return replace(job.cost, amount=amount, basis="exact" if all_came else "estimate")


def _elsewhere(
    operation: FanOutOperation,
    provider: Provider,
    settings: ProviderSettings,
    live: LiveJob,
    state: State,
    now: float,
) -> State:
    expected = operation.expected(live.job.arguments)
    state = at_most(state, MOST_ELSEWHERE if expected is None else expected)
    come = len(state.outputs)
    progress = Progress(min(come, expected), expected) if expected is not None else None
    if expected is not None and come >= expected:
        return replace(state, status="completed", progress=progress)
    if now < deadline(operation, settings, live):
        return replace(state, status="running", progress=progress)
    if not come:
        return replace(_unseen(operation, provider, state), progress=progress)
    missing = f"{expected - come} images never came before the deadline" if expected else ""
    warnings = (*state.warnings, missing) if missing else state.warnings
    return replace(state, status="completed", progress=progress, warnings=warnings, concluded=True)


def _unseen(operation: FanOutOperation, provider: Provider, state: State) -> State:
    """Return the state of a job that was accepted but has no outputs: unknown, not failed."""
    error = replace(
        failure("outcome_unknown", provider.title),
        message=f"{provider.title} accepted it, and nothing came before the deadline",
        next_step=f"do not start it again: call {operation.check_tool} later, it asks once more; "
        "if the person gives it up, settle it with resolve_job",
    )
    return replace(state, status="unknown", failure=error)


def _named(names: list[str]) -> str:
    named = ""
    for number, name in enumerate(names):
        longer = f"{named}, {name}" if named else name
        if len(longer) > NAMED_CHARACTERS:
            return f"{named or name[:NAMED_CHARACTERS]} and {len(names) - max(number, 1)} more"
        named = longer
    return named
