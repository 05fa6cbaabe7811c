"""Reading fields of a provider's answer one by one: absent and null are the same, types are checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from darkroom.operation import UnreadableError

if TYPE_CHECKING:
    from darkroom.errors import JsonObject, JsonValue


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


def address(fields: JsonObject, name: str) -> str | None:
    """Return a field that is an address, as it came; None if it is no text or blank.

    The machine mends it, or says in a warning why it cannot be used.
    """
    value = text(fields, name)
    return value if value is not None and value.strip() else None


def objects(value: JsonValue) -> list[JsonObject]:
    """Return the objects of a list; an empty list if it is none."""
    if not isinstance(value, list):
        return []
    return [entry for entry in value if isinstance(entry, dict)]


def moment(value: JsonValue) -> float | None:
    """Return a time as seconds since the epoch, from ISO 8601 or seconds or milliseconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value / 1000 if value > 1e11 else float(value)  # noqa: PLR2004 -- milliseconds
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
