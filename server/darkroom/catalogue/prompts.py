"""Prompts: common requests as messages to the model, adapted to the listed tools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from darkroom.engine.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An argument of a prompt; ``complete`` returns values that begin with what was typed.

    It is offered only if all tools that it ``needs`` are listed.
    """

    name: str
    description: str
    required: bool = False
    needs: tuple[str, ...] = ()
    complete: Callable[[Engine, str], Awaitable[Sequence[str]]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A person's request as a message to the model.

    ``text(arguments, tools)`` returns the message for the listed tools. A prompt is offered only if
    all tools of at least one of the sets in ``needs`` are listed.
    """

    name: str
    title: str
    description: str
    text: Callable[[Mapping[str, str], Collection[str]], str]
    arguments: tuple[Argument, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ((),)
