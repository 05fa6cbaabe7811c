"""Telling which of a job's results belongs to which of its items.

A result belongs to the item whose name it bears; a provider derives names from those that it was
given, and mostly as it documents. What bears no item's name is told by the nearest name, then by
the order: only where all results are this job's, and never without a warning.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from darkroom.providers.operations import FanOutOperation
    from darkroom.providers.values import Output

LEAST_LIKENESS = 0.3
"""Names that share less are not near each other; 1 is the same letters and digits."""

MOST_COMPARISONS = 10_000
"""Of one name with another, for one job; beyond that, only the order tells."""

MOST_LEFT = 400
"""Results without an item that are looked at: twice as many as a job has items."""


def by_name(
    operation: FanOutOperation, items: Sequence[str], outputs: Sequence[Output]
) -> tuple[dict[str, Output], list[Output]]:
    """Return the items' results by their names, and the results that bear no item's name.

    The most exact names are compared first, for all items; a result belongs to one item.
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
    """Return results for items without one: by the nearest name, and by the order for the rest."""
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
    """Return the pairs of neighbouring letters and digits of a name, whatever their case."""
    plain = re.sub(r"[\W_]+", "", name.casefold())
    return frozenset(plain[at : at + 2] for at in range(max(1, len(plain) - 1)))


def _likeness(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / (len(one) + len(other))
