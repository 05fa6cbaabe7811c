"""Templates in configuration values that a host did not fill in."""

from __future__ import annotations

import re

TEMPLATE = re.compile(r"^\s*(\$\{[^}]*\}|\$\([^)]*\)|\{\{[^}]*\}\}|<[^>]*>|%[A-Z_]+%)\s*$")

_TEMPLATE_INSIDE = re.compile(
    r"\$\{[^}]*\}|\$\([^)]*\)|\{\{[^}]*\}\}|%[A-Za-z_][A-Za-z0-9_]{2,}%|\$[A-Z_][A-Z0-9_]*"
)
SHOWN_CHARACTERS = 60


def unfilled(where: str, value: str) -> str | None:
    """Return an error if a setting's value contains a template that was not filled in, else None.

    Such a value must not be used. As a path it would name a different folder in each working
    directory, each with its own journal, and an identical call would be paid for once in each.
    """
    found = TEMPLATE.match(value) or _TEMPLATE_INSIDE.search(value)
    if found is None:
        return None
    shown = found[0].strip()[:SHOWN_CHARACTERS]
    return f"{where}: holds the template {shown}, which was not filled in; give the value itself"
