"""Environment variables, and files whose path a variable holds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.core.templates import TEMPLATE
from darkroom.core.text_files import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a variable has no value, as text for the person."""

    variable: str
    reason: str


def read_variable(environment: Mapping[str, str], variable: str) -> tuple[str, str] | Missing:
    """Return the value of ``variable``, or of the file that ``variable_FILE`` names, and its source."""
    value = environment.get(variable, "").strip()
    source = variable
    if not value and (path := environment.get(f"{variable}_FILE", "").strip()):
        source = f"{variable}_FILE"
        try:
            value = read_text(Path(path).expanduser()).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            return Missing(variable, f"the file that {source} names cannot be read ({reason})")
        if not value:
            return Missing(variable, f"the file that {source} names is empty")
    if not value:
        return Missing(variable, f"{variable} is not set")
    if TEMPLATE.match(value):
        return Missing(variable, f"{source} holds a template that was not filled in")
    return value, source


def process_environment() -> Mapping[str, str]:
    """Return this process's environment; later changes show in it."""
    return os.environ
