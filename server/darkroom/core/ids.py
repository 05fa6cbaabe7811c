"""Random ids that cannot be guessed."""

from __future__ import annotations

import secrets
import string
from typing import TypeVar

T = TypeVar("T")


ID_ALPHABET = string.ascii_letters + string.digits


ID_CHARACTERS = 22


def new_id() -> str:
    """Return 22 random letters and digits (131 bits)."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_CHARACTERS))
