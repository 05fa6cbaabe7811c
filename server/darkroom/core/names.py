"""Finding the name that was probably meant."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

COMPARED_CHARACTERS = 100
"""Longer names are not compared: it takes time and finds nothing."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like ``name``, upper and lower case alike; None: none is."""
    if len(name) > COMPARED_CHARACTERS:
        return None
    folded = {each.casefold(): each for each in known}
    near = get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None
