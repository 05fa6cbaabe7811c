"""Canonical JSON, and short hashes of texts."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from darkroom.core.json_types import JsonValue


def canonical(value: JsonValue) -> str:
    """Return the canonical JSON of a value: keys sorted, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(*parts: str) -> str:
    """Return a short hash over the parts, in hex."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
