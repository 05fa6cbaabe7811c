"""A pool of tasks: creating a task costs about as much as preparing a request to a provider."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from anyio.abc import TaskGroup

    Function: TypeAlias = Callable[..., Coroutine[object, object, None]]

log = logging.getLogger("darkroom")

MOST_RESTING = 32
"""At most this many idle tasks are kept; others end. It is about the number of jobs that are due
at the same moment in a busy hour."""


class TaskPool:
    """Runs functions at once, each in a task of its own while it runs."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._work: deque[tuple[Function, tuple[object, ...]]] = deque()
        self._resting: list[anyio.Event] = []

    def give(self, function: Function, *args: object) -> None:
        """Run ``function``; an exception is logged and does not end the task group."""
        self._work.append((function, args))
        if self._resting:
            self._resting.pop().set()
        else:
            self._tasks.start_soon(self._work_off)

    async def _work_off(self) -> None:
        while True:
            while self._work:
                function, args = self._work.popleft()
                try:
                    await function(*args)
                except Exception as error:  # noqa: BLE001 -- one bug must not end the others
                    log.error("%s failed: %s", function.__qualname__, type(error).__name__)
            if len(self._resting) == MOST_RESTING:
                return
            wanted = anyio.Event()
            self._resting.append(wanted)
            await wanted.wait()
