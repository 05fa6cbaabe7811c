"""Checks of a provider's numbers: one that cannot be right is left out and not counted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from darkroom.providers.messages import State
    from darkroom.providers.values import Cost, Output, Progress

MOST_COST = 1_000_000.0
"""The largest cost of one job, in the provider's unit."""

LARGEST_COUNT = 2**53
"""The largest number of pixels, bytes or parts of a job; a float can still hold it exactly."""

MOST_OUTPUTS = 64
"""Of a job of one request, more than any provider gives for one."""

LONGEST_LIFE_SECONDS = 10 * 366 * 86_400.0
"""The longest time until an address expires."""

NOT_BELIEVED = "the provider named a cost that cannot be right; it is not counted"


def believed(state: State, now: float) -> State:
    """Return a state without the numbers that cannot be right; a wrong cost leaves a warning.

    A cost must be finite, not negative and at most `MOST_COST`: a negative one would disable caps.
    """
    if state.cost is not None and not _is_cost(state.cost):
        state = replace(state, cost=None, warnings=(*state.warnings, NOT_BELIEVED))
    if state.progress is not None and not _is_progress(state.progress):
        state = replace(state, progress=None)
    outputs = tuple(_believed(output, now) for output in state.outputs)
    return state if outputs == state.outputs else replace(state, outputs=outputs)


def believed_cost(cost: Cost | None) -> Cost | None:
    """Return a cost that can be right; None if it is not one."""
    return cost if cost is not None and _is_cost(cost) else None


def at_most(state: State, most: int) -> State:
    """Return a state with no more outputs than are expected: each is downloaded, and kept."""
    over = len(state.outputs) - most
    if over <= 0:
        return state
    said = f"{over} results more than the {most} that are expected are not looked at"
    return replace(state, outputs=state.outputs[:most], warnings=(*state.warnings, said))


def _believed(output: Output, now: float) -> Output:
    expires_at = output.expires_at
    if expires_at is not None and not 0 <= expires_at <= now + LONGEST_LIFE_SECONDS:
        output = replace(output, expires_at=None)
    for name in ("width", "height", "bytes"):
        if not _is_count(getattr(output, name)):
            output = replace(output, **{name: None})
    return output


def _is_cost(cost: Cost) -> bool:
    return math.isfinite(cost.amount) and 0 <= cost.amount <= MOST_COST


def _is_progress(progress: Progress) -> bool:
    return _is_count(progress.done) and _is_count(progress.total)


def _is_count(value: int | None) -> bool:
    return value is None or 0 <= value <= LARGEST_COUNT
