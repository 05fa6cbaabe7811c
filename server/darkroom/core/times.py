"""Times as people and models read them."""

from __future__ import annotations

from datetime import UTC, datetime

_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def iso(at: float) -> str:
    """Write a time as ISO 8601 in UTC, to the second; one out of the calendar as its end."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_SECOND), UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
