"""What follows a tool that begins something which goes on after its answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """The tools that check and cancel what was begun; ``argument`` names it to them."""

    argument: str
    check: str
    cancel: str
