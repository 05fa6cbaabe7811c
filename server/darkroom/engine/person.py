"""The person behind a call, who can be asked and sees progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from darkroom.core.errors import call_error

if TYPE_CHECKING:
    from darkroom.core.errors import CallError


class Person(Protocol):
    """The person behind a call."""

    @property
    def answers_tasks(self) -> bool:
        """Whether a start may continue as a task that asks, instead of calling `approve`."""
        ...

    @property
    def can_ask(self) -> bool:
        """Whether the person can be asked at all."""
        ...

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Return if the person says yes to ``question``.

        ``binding`` identifies exactly what is asked (tool and arguments), so that an approval is
        never used for anything else.

        Raises
        ------
        CallError: ``declined``, or ``not_configured`` if nobody can be asked.
        InputNeededError: the host has to ask and call again.
        """
        ...

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Show the person the progress of a wait, if the host supports that."""
        ...


class Nobody:
    """Stands for the person in calls that the engine makes by itself: nobody can be asked."""

    answers_tasks = False
    can_ask = False

    async def approve(self, tool: str, question: str, binding: str) -> None:
        """Refuse: nobody can be asked."""
        del binding
        raise cannot_ask(tool, question)

    async def progress(self, done: float, total: float | None, message: str) -> None:
        """Tell nobody."""


def cannot_ask(tool: str, question: str) -> CallError:
    """Return the refusal for a host that cannot ask the person."""
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
