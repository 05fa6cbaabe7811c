"""Where blocking work is done: away from the event loop, or, in tests, in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Executor(Protocol):
    """Run a blocking function to its end, away from the event loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Return what ``work`` returns."""
        ...


def worker_thread() -> Executor:
    """Return an executor that does one thing at a time; it is cancelled only before it starts."""
    limiter = anyio.CapacityLimiter(1)

    async def run(work: Callable[[], T], /) -> T:
        return await anyio.to_thread.run_sync(work, limiter=limiter)

    return run
