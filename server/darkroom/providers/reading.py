"""Functions that read single fields of a provider's response and check their types.

A field that is null counts as absent.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from darkroom.providers.messages import UnreadableError

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonObject, JsonValue

LARGEST_COUNT = 10**12
LONGEST_SECONDS = 366 * 86_400.0
LAST_MOMENT = 253_402_300_799.0
"""The end of the year 9999, in seconds since the epoch."""


def text(fields: JsonObject, name: str) -> str | None:
    """Return a field that is a non-empty string; None if it is anything else."""
    value = fields.get(name)
    return value if isinstance(value, str) and value else None


def required_text(fields: JsonObject, name: str) -> str:
    """Return a field that must be a non-empty string.

    Raises
    ------
    UnreadableError: it is not.
    """
    value = text(fields, name)
    if value is None:
        raise UnreadableError(f"no text in {name}")
    return value


def number(fields: JsonObject, name: str) -> float | None:
    """Return a field that is a number; None if it is anything else."""
    value = fields.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def amount(fields: JsonObject, name: str) -> float | None:
    """Return a field that contains a cost; None if it is absent.

    NaN if it is not a number: the engine then does not count it, and adds a warning.
    """
    value = number(fields, name)
    return value if value is not None or fields.get(name) is None else math.nan


def count(fields: JsonObject, name: str) -> int | None:
    """Return a field that contains a count; None if it is anything else."""
    value = number(fields, name)
    return int(value) if value is not None and 0 <= value <= LARGEST_COUNT else None


def seconds(fields: JsonObject, name: str) -> float | None:
    """Return a field that contains a duration in seconds; None if it is anything else."""
    value = number(fields, name)
    return float(value) if value is not None and 0 < value <= LONGEST_SECONDS else None


def address(fields: JsonObject, name: str) -> str | None:
    """Return a field that contains an address, unchanged; None if it is not text or is blank.

    The engine normalises the address, or says in a warning why it cannot be used.
    """
    value = text(fields, name)
    return value if value is not None and value.strip() else None


def objects(value: JsonValue) -> list[JsonObject]:
    """Return the objects of a list; an empty list if the value is not a list."""
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, dict)]


def moment(value: JsonValue) -> float | None:
    """Return a time as seconds since the epoch, from ISO 8601 or seconds or milliseconds.

    None if it is anything else, or outside the years 1970 to 9999.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        at = value / 1000 if value > 1e11 else float(value)  # noqa: PLR2004 -- milliseconds
    elif isinstance(value, str):
        try:
            read = datetime.fromisoformat(value)
            at = (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    else:
        return None
    return at if 0 <= at <= LAST_MOMENT else None
