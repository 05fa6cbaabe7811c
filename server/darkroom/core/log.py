"""The log of this program."""

from __future__ import annotations

import logging
from typing import TypeVar

T = TypeVar("T")


log = logging.getLogger("darkroom")
