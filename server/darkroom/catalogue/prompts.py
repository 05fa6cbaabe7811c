"""Prompts: what people ask most, put into words for the model, by the tools that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from darkroom.engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An argument of a prompt; ``complete`` returns values that begin with what was typed.

    It is offered only where all tools that it ``needs`` are listed.
    """

    name: str
    description: str
    required: bool = False
    needs: tuple[str, ...] = ()
    complete: Callable[[Engine, str], Awaitable[Sequence[str]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a person asks for, as a message to the model.

    ``text(arguments, tools)`` writes it, for the tools that are listed; a prompt is offered only
    where all tools of one of the sets that it ``needs`` are.
    """

    name: str
    title: str
    description: str
    text: Callable[[Mapping[str, str], Collection[str]], str]
    arguments: tuple[Argument, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ((),)
