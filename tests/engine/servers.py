"""Several servers on one journal, and what tests ask of them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel

from darkroom_tools.emulators.sandbox import Sandbox
from tests.engine.support import DAY, SAMPLES
from tests.faults.process import Process, process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    import pytest
    from anyio.abc import TaskGroup

    from tests.harness import Fields

T = TypeVar("T")
DETAILS = {"workflow_details": {"a": 1}, "output_details": {"b": 2}}


def image(number: int) -> dict[str, str]:
    return {"image_url": f"{SAMPLES}/product-{number}.jpg", "image_name": f"i{number}"}


@asynccontextmanager
async def servers(
    clock: Callable[[], float], folder: Path, count: int = 2, **environment: str
) -> AsyncGenerator[tuple[list[Process], Sandbox, TaskGroup]]:
    """Run several processes on one journal, with one sandbox as their providers."""
    sandbox = Sandbox(clock=clock)
    found = [process(sandbox, folder, clock, environment, seed=n) for n in range(count)]
    with anyio.fail_after(40 * DAY):
        async with anyio.create_task_group() as tasks:
            for one in found:
                one.begin(tasks)
                await one.store()
            try:
                yield found, sandbox, tasks
            finally:
                with anyio.CancelScope(shield=True):
                    for one in found:
                        await one.stop()


async def wait_until(one: Process, tool: str, status: str, /, **arguments: object) -> Fields:
    """Look until the job, or the batch, has this status."""
    while True:
        await anyio.sleep(0.2)
        job = await one.call(tool, **{"wait_seconds": 20, **arguments})
        if job["status"] == status:
            return job


def yields_at_every_access(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other tasks run at every access to the journal, as with a thread of its own."""
    own = Process.run

    async def run(self: Process, work: Callable[[], T], /) -> T:
        await anyio.lowlevel.checkpoint()
        result = await own(self, work)
        await anyio.lowlevel.checkpoint()
        return result

    monkeypatch.setattr(Process, "run", run)


def asked_of(sandbox: Sandbox, operation: str, emulator: str = "zupertry") -> list[Any]:
    return [r for r in sandbox.emulators[emulator].requests if r.operation == operation]
