"""From the arguments of ``start_batch`` to a list of items: cross lists, copy, add a second stage."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from darkroom.core.digests import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from darkroom.core.json_types import JsonObject, JsonValue

ITEM = re.compile(r"item:([^#\s]{1,64})(?:#([0-9]{1,4}))?")
MOST_ITEMS = 1_000
MOST_CHARACTERS = 8_000_000
"""Of the arguments of all jobs of a batch, as its rows and its manifest hold them."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One start call of a batch. ``after``: the id of the first-stage item whose output it takes."""

    id: str
    tool: str
    arguments: JsonObject
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """The call for every output of the first stage; ``input`` names the argument that takes it."""

    tool: str
    arguments: JsonObject
    input: str


def expand(
    items: Sequence[BatchItem] | None,
    template: BatchItem | None,
    for_each: Mapping[str, Sequence[JsonValue]] | None,
    copies: int,
    then: Stage | None,
) -> tuple[list[BatchItem], list[str]]:
    """Return all items in the order in which they are sent, and the mistakes in the arguments.

    The items are either ``items``, or a ``template`` crossed with the lists of ``for_each`` (the
    first list varies slowest). Each item is then copied and followed by its second stage. If these
    are too many, or too large together, there is only that mistake and no item.
    """
    mistakes: list[str] = []
    if items is not None:
        first = list(items)
    elif template is not None:
        first = _crossed(template, for_each or {}, mistakes)
    else:
        first = []
    if copies > 1:
        first = [
            replace(item, id=f"{item.id}.{copy}") for item in first for copy in range(1, copies + 1)
        ]
    doubled = [name for name, count in Counter(item.id for item in first).items() if count > 1]
    mistakes.extend(f"items: the id '{name}' is there twice; give each its own" for name in doubled)
    if not first:
        mistakes.append("items: there is nothing to start; give items, or tool with for_each")
    second = [_long_running(item, then) for item in first] if then is not None else []
    everything = [*first, *second]
    # Beyond these nothing else is looked at: that is what would take the time and the memory.
    if len(everything) > MOST_ITEMS:
        said = f"this makes {len(everything)} jobs; a batch takes at most {MOST_ITEMS}: split it"
        return [], [said]
    if _too_large(everything):
        millions = f"{MOST_CHARACTERS / 1e6:g} million characters"
        said = f"the arguments of all jobs together are longer than {millions}; split it"
        return [], [f"{said}, or give less in each job"]
    return everything, mistakes


def _too_large(items: Sequence[BatchItem]) -> bool:
    """Tell whether rows would be too large: an object that items share is written for each."""
    sizes: dict[int, int] = {}
    left = MOST_CHARACTERS
    for item in items:
        for value in item.arguments.values():
            if id(value) not in sizes:
                sizes[id(value)] = len(canonical(value))
            left -= sizes[id(value)]
        if left < 0:
            return True
    return False


def _crossed(
    template: BatchItem, for_each: Mapping[str, Sequence[JsonValue]], mistakes: list[str]
) -> list[BatchItem]:
    for name, values in for_each.items():
        if not values:
            mistakes.append(f"for_each.{name}: the list is empty")
        if name in template.arguments:
            mistakes.append(f"for_each.{name}: arguments has it too; leave one of them out")
    crossed = itertools.product(*for_each.values())
    return [
        BatchItem(
            str(position),
            template.tool,
            {**template.arguments, **dict(zip(for_each, values, strict=True))},
        )
        for position, values in enumerate(itertools.islice(crossed, MOST_ITEMS + 1))
    ]


def _long_running(item: BatchItem, then: Stage) -> BatchItem:
    return BatchItem(
        f"{item.id}>0", then.tool, {**then.arguments, then.input: f"item:{item.id}#0"}, item.id
    )


def references(value: JsonValue) -> list[str]:
    """Return the ids of the items that arguments refer to."""
    if isinstance(value, str):
        match = ITEM.fullmatch(value)
        return [match[1]] if match else []
    if isinstance(value, dict):
        return [name for inner in value.values() for name in references(inner)]
    if isinstance(value, list):
        return [name for inner in value for name in references(inner)]
    return []


def resolved(value: JsonValue, jobs: Mapping[str, str]) -> JsonValue:
    """Return arguments with ``item:<id>#<index>`` replaced by ``job:<job_id>#<index>``."""
    if isinstance(value, str):
        match = ITEM.fullmatch(value)
        if match is None or match[1] not in jobs:
            return value
        return f"job:{jobs[match[1]]}#{match[2] or 0}"
    if isinstance(value, dict):
        return {name: resolved(inner, jobs) for name, inner in value.items()}
    if isinstance(value, list):
        return [resolved(inner, jobs) for inner in value]
    return value


def circles(items: Sequence[BatchItem]) -> list[str]:
    """Return the mistakes in references between items: missing items and circles."""
    known = {item.id: [*references(item.arguments)] for item in items}
    mistakes = [
        f"item '{item.id}': there is no item '{name}'"
        for item in items
        for name in known[item.id]
        if name not in known
    ]
    done: set[str] = set()
    for item in items:
        path: list[str] = []
        waiting = [(item.id, iter(known[item.id]))] if item.id not in done else []
        while waiting:
            name, following = waiting[-1]
            if name not in path:
                path.append(name)
            step = next((n for n in following if n in known and n not in done), None)
            if step is None:
                done.add(name)
                path.pop()
                waiting.pop()
            elif step in path:
                around = " -> ".join([*path[path.index(step) :], step])
                mistakes.append(f"items wait for each other in a circle: {around}")
                done.update(path)
                break
            else:
                waiting.append((step, iter(known[step])))
    return mistakes
