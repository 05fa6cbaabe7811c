"""What the tests about money need: a server process, a person, what the emulators charged."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import anyio
from mcp_types import ElicitRequestFormParams, ElicitResult

from darkroom_tools.emulators.sandbox import Sandbox
from tests.faults.process import Process, process

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from pathlib import Path

    from darkroom_tools.emulators.zsky.emulator import ZskyEmulator
    from tests.harness import Fields, Rig

HOUR = 3_600.0
DAY = 86_400.0


class Asked:
    """A person who answers as told, and what they were asked."""

    def __init__(self, action: Any = "accept", *, approve: object = True) -> None:
        self.questions: list[str] = []
        self.action = action
        self.approve = approve
        self.sent_before_the_answer: list[int] = []
        self.dependencies: Rig | None = None

    async def __call__(self, context: object, params: Any) -> ElicitResult:
        del context
        assert isinstance(params, ElicitRequestFormParams)
        self.questions.append(params.message)
        if self.dependencies is not None:
            sent = sum(len(each.requests) for each in self.dependencies.sandbox.emulators.values())
            self.sent_before_the_answer.append(sent)
        if self.action == "never":
            await anyio.sleep_forever()
        content = {"approve": self.approve} if self.action == "accept" else None
        return ElicitResult(action=self.action, content=content)  # pyright: ignore[reportArgumentType] -- what a host may send


@asynccontextmanager
async def server(
    clock: Callable[[], float],
    folder: Path,
    sandbox: Sandbox | None = None,
    variables: Mapping[str, str] | None = None,
) -> AsyncGenerator[tuple[Process, Sandbox]]:
    """Run a process on the journal in ``folder``; stop it in the end, in order."""
    providers = sandbox or Sandbox(clock=clock)
    one = process(providers, folder, clock, variables)
    with anyio.fail_after(400 * DAY):
        async with anyio.create_task_group() as tasks:
            one.begin(tasks)
            try:
                yield one, providers
            finally:
                with anyio.CancelScope(shield=True):
                    await one.stop()


def zsky(sandbox: Sandbox) -> ZskyEmulator:
    """Return the emulator of ZSky."""
    return cast("ZskyEmulator", sandbox.emulators["zsky"])


def arrived(sandbox: Sandbox, emulator: str, *operations: str) -> int:
    """Count the requests of these operations that arrived."""
    return sum(
        each.operation in operations and each.fault != "refuse"
        for each in sandbox.emulators[emulator].requests
    )


def charged(sandbox: Sandbox, emulator: str) -> float:
    """Return what the customer paid in all."""
    return sum(charge.amount for charge in sandbox.emulators[emulator].charges)


async def spending(one: Process, provider: str, unit: str, since: str | None = None) -> Fields:
    """Return the entry of ``get_spending`` for one unit."""
    shown = await one.call("get_spending", **({"since": since} if since else {}))
    found = [e for e in shown["providers"] if (e["provider"], e["unit"]) == (provider, unit)]
    return found[0] if found else {"spent": 0}


async def ended(one: Process, check: str, job_id: object) -> Fields:
    """Check until the job ends, or nobody can tell how it did."""
    while True:
        job = await one.call(check, job_id=job_id, wait_seconds=40)
        if job["status"] not in {"queued", "running"}:
            return job
