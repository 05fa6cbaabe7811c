"""Who is behind a call: can be asked, and is told how far a wait is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from darkroom.core.errors import call_error

if TYPE_CHECKING:
    from darkroom.core.errors import CallError


class Person(Protocol):
    """Who is behind a call."""

    @property
    def answers_tasks(self) -> bool:
        """Whether a start may go on as a task that asks, in place of `approve`."""
        ...

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Return when the person said yes to ``question``.

        ``binding`` identifies what exactly is asked (tool and arguments), so that a yes to one
        thing is never taken for a yes to another.

        Raises
        ------
        CallError: ``declined``, or ``not_configured`` where nobody can be asked.
        InputNeededError: the host has to ask and call again.
        """
        ...

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell the person how far a wait is, where the host shows it."""
        ...


class Nobody:
    """Nobody is behind what the machine does by itself."""

    answers_tasks = False

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Refuse: nobody can be asked."""
        del binding
        raise cannot_ask(tool, question)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell nobody."""


def cannot_ask(tool: str, question: str) -> CallError:
    """Return the refusal for a host that has no way to ask."""
    return call_error(
        "not_configured",
        f"{tool} needs the person's approval ({question}), and this host has no way to ask",
        f"ask the person to allow it in the configuration: [approval] never_ask = ['{tool}']",
    )


def declined(tool: str) -> CallError:
    """Return the error for a no."""
    return call_error(
        "declined",
        f"the person did not approve {tool}; nothing was sent",
        "do not call it again unless the person asks for it",
    )
