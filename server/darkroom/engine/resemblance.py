"""Tells whether a start call repeats an earlier one in other words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from darkroom.core.nested import texts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from darkroom.core.json_types import JsonObject
    from darkroom.jobs.model import Intent, Job
    from darkroom.jobs.store import Forecast
    from darkroom.providers.operations import JobOperation
    from darkroom.providers.provider import Provider

ALIKE = 0.6
"""From this similarity on, two texts are taken for the same wish.

A text with words added or replaced has about 0.7 and more; two unrelated English sentences have
about 0.3.
"""


def doubt_about(
    provider: Provider, operation: JobOperation, intent: Intent, forecast: Forecast
) -> str | None:
    """Return what is said about an unknown job that may be the same wish, if there is one."""
    if (other := forecast.doubtful) is not None:
        return f"{other.job_id} has the same arguments and is of unknown fate"
    if (other := resembling(operation, intent.arguments, forecast.unknown)) is None:
        return None
    return (
        f"{other.job_id} asked for the same in other words, and it is not known whether "
        f"{provider.title} accepted it"
    )


def resembling(
    operation: JobOperation, arguments: JsonObject, earlier: Iterable[Job]
) -> Job | None:
    """Return the first of the earlier jobs of this operation that asks for the same in other words.

    The texts that the operation names (`JobOperation.texts`) have to be similar, all other texts
    (addresses, formats) equal. Numbers may differ: a repeated call often has another seed or size.
    Operations without such texts are told by equal arguments alone.
    """
    wanted, rest = _split(operation, arguments)
    if not wanted:
        return None
    for job in earlier:
        said, other = _split(operation, job.arguments)
        if rest == other and said and similarity(wanted, said) >= ALIKE:
            return job
    return None


def similarity(one: str, other: str) -> float:
    """Return how much of two texts is equal, between 0 and 1, in any script.

    It counts the pairs of neighbouring letters that both have (Dice's coefficient).
    """
    ours, theirs = _pairs(one), _pairs(other)
    whole = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / whole if whole else float(one == other)


def _split(operation: JobOperation, arguments: JsonObject) -> tuple[str, list[tuple[str, str]]]:
    """Return the words of a call, and all its other texts with their names."""
    found = list(texts(arguments))
    said = " ".join(text for name, text in found if name in operation.texts)
    return said, sorted((name, text) for name, text in found if name not in operation.texts)


def _pairs(text: str) -> Counter[str]:
    letters = "".join(letter for letter in text.casefold() if letter.isalnum())
    return Counter(letters[at : at + 2] for at in range(len(letters) - 1))
