"""Assigns the results of a job of many requests to its items.

A result belongs to the item whose name it has; a provider derives result names from the names that
it was given, mostly as documented. Other results are assigned by the most similar name, then by
their order, but only if all results belong to this job, and always with a warning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from darkroom.providers.operations import FanOutOperation
    from darkroom.providers.values import Output

LEAST_LIKENESS = 0.3
"""Names with a lower similarity are not assigned to each other; 1 means equal."""

MOST_COMPARISONS = 10_000
"""Maximum number of name comparisons for one job; beyond that, only the order is used."""

MOST_LEFT = 400
"""Maximum number of results without an item that are examined, per item of the job."""


def by_name(
    operation: FanOutOperation, items: Sequence[str], outputs: Sequence[Output]
) -> tuple[dict[str, Output], list[Output]]:
    """Return the results that have an item's name, by item, and the other results.

    The most exact names of all items are compared first. A result belongs to at most one item.
    """
    names = {item: operation.item_names(item) for item in items}
    left = list({(each.name, each.url): each for each in outputs}.values())
    offered = [operation.output_names(output) for output in left]
    come: dict[str, Output] = {}
    taken: set[int] = set()
    for rank in range(len(names[items[0]])):
        wanted = {names[item][rank] for item in items if item not in come}
        bearing: dict[str, Output] = {}
        for output, said in zip(left, offered, strict=True):
            if said[rank] in wanted and id(output) not in taken:
                bearing.setdefault(said[rank], output)
        for item in items:
            if item not in come and (found := bearing.pop(names[item][rank], None)) is not None:
                come[item] = found
                taken.add(id(found))
    left = [each for each in left if id(each) not in taken]
    known = {each.name for each in come.values()}
    return come, [each for each in left if each.name not in known][:MOST_LEFT]


def by_likeness(
    operation: FanOutOperation, items: Sequence[str], left: Sequence[Output]
) -> tuple[dict[str, Output], dict[str, Output]]:
    """Return results for items without one: by the most similar name, the rest by order."""
    wanted = {item: _pairs(operation.item_names(item)[-1]) for item in items}
    offered = [_pairs(operation.output_names(output)[-1]) for output in left]
    near: dict[str, Output] = {}
    taken: set[int] = set()
    if len(wanted) * len(offered) <= MOST_COMPARISONS:
        likeness = [
            (-_likeness(pairs, other), place, item, index)
            for place, (item, pairs) in enumerate(wanted.items())
            for index, other in enumerate(offered)
        ]
        for unlike, _, item, index in sorted(likeness):
            if -unlike < LEAST_LIKENESS:
                break
            if item not in near and index not in taken:
                near[item] = left[index]
                taken.add(index)
    rest = [output for index, output in enumerate(left) if index not in taken]
    others = [item for item in items if item not in near]
    return near, dict(zip(others, rest, strict=False))


def _pairs(name: str) -> frozenset[str]:
    """Return the pairs of neighbouring letters and digits of a name, ignoring case."""
    plain = re.sub(r"[\W_]+", "", name.casefold())
    return frozenset(plain[at : at + 2] for at in range(max(1, len(plain) - 1)))


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other))
