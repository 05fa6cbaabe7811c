"""Ids that nobody can guess."""

from __future__ import annotations

import secrets
import string
from typing import TypeVar

T = TypeVar("T")


ID_ALPHABET = string.ascii_letters + string.digits


ID_CHARACTERS = 22


def new_id() -> str:
    """Return 22 random letters and digits: not to be guessed."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_CHARACTERS))
