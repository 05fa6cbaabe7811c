"""Nested tables, as settings are before they are validated."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def merge(below: dict[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Return both tables as one; a value in ``above`` takes precedence."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        if isinstance(value, dict) and isinstance(under, dict):
            merged[key] = merge(cast("dict[str, object]", under), cast("dict[str, object]", value))
        else:
            merged[key] = value
    return merged


def leaves(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Return every key with its value, those of tables included (with None)."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield f"{prefix}{key}", None
            yield from leaves(cast("dict[str, object]", value), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def texts(value: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Return every text of a value with its key, those in lists and tables included."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield from texts(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list | tuple):
        for inner in cast("Sequence[object]", value):
            yield from texts(inner, key)
