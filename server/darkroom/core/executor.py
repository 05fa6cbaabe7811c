"""Where blocking work runs: in a thread, or, in tests, directly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


class Executor(Protocol):
    """Runs a blocking function to its end without blocking the event loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Return what ``work`` returns."""
        ...


def worker_thread() -> Executor:
    """Return an executor that runs one function at a time and never cancels one that has begun."""
    limiter = anyio.CapacityLimiter(1)

    async def run(work: Callable[[], T], /) -> T:
        return await anyio.to_thread.run_sync(work, limiter=limiter)

    return run
