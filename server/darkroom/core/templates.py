"""Templates that a host should have filled in, and passed on as they were."""

from __future__ import annotations

import re

TEMPLATE = re.compile(r"^\s*(\$\{[^}]*\}|\$\([^)]*\)|\{\{[^}]*\}\}|<[^>]*>|%[A-Z_]+%)\s*$")

_TEMPLATE_INSIDE = re.compile(
    r"\$\{[^}]*\}|\$\([^)]*\)|\{\{[^}]*\}\}|%[A-Za-z_][A-Za-z0-9_]{2,}%|\$[A-Z_][A-Z0-9_]*"
)
SHOWN_CHARACTERS = 60


def unfilled(where: str, value: str) -> str | None:
    """Say that a setting's value holds a template that nobody filled in; None if it holds none.

    It must not be used as it is: as a folder it would be another one in each working folder, with
    a journal of its own, and the same call would be paid for in each.
    """
    found = TEMPLATE.match(value) or _TEMPLATE_INSIDE.search(value)
    if found is None:
        return None
    shown = found[0].strip()[:SHOWN_CHARACTERS]
    return f"{where}: holds the template {shown}, which was not filled in; give the value itself"
