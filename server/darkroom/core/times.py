"""Times as text for people and models."""

from __future__ import annotations

from datetime import UTC, datetime

_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def iso(at: float) -> str:
    """Return a time as ISO 8601 in UTC, in whole seconds, limited to the years 1970 to 9999."""
    return datetime.fromtimestamp(min(max(at, 0.0), _LAST_SECOND), UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
