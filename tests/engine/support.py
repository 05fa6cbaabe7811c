"""What several tests of the machine need: the paid operations, and what an emulator was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import anyio
import trio.testing

from tests.harness import Fields, call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from darkroom_tools.emulators.kit import Emulator
    from darkroom_tools.emulators.record import Asked
    from darkroom_tools.emulators.zsky.emulator import ZskyEmulator
    from darkroom_tools.emulators.zupertry.emulator import ZupertryEmulator
    from mcp import Client
    from tests.harness import Rig

SAMPLES = "https://samples.sandbox.test"
HOUR = 3600.0
DAY = 86_400.0


@dataclass(frozen=True, eq=False)
class Paid:
    """An operation that costs something: its tools, and what its emulator calls it."""

    emulator: str
    start: str
    check: str
    submit: str
    look: str
    arguments: Mapping[str, object]

    def __str__(self) -> str:
        return self.start


IMAGE = Paid(
    "zsky",
    "zsky_start_image",
    "zsky_check_job",
    "generate_image",
    "get_job",
    {"prompt": "A lighthouse at dusk"},
)
VIDEO = Paid(
    "zsky",
    "zsky_start_video",
    "zsky_check_job",
    "generate_video",
    "get_job",
    {"prompt": "Waves against a lighthouse"},
)
TRYON = Paid(
    "zupertry",
    "zupertry_start_tryon",
    "zupertry_check_tryon",
    "submit",
    "get",
    {
        "model_image_url": f"{SAMPLES}/model-1.jpg",
        "garment_image_url": f"{SAMPLES}/garment-1.jpg",
    },
)


def zsky(rig: Rig) -> ZskyEmulator:
    """Return the emulator of ZSky."""
    return cast("ZskyEmulator", rig.sandbox.emulators["zsky"])


def zupertry(rig: Rig) -> ZupertryEmulator:
    """Return the emulator of Zuper Try-On."""
    return cast("ZupertryEmulator", rig.sandbox.emulators["zupertry"])


def asked(rig: Rig, emulator: str, *operations: str) -> list[Asked]:
    """Return the requests for these operations (all but downloads if none is named)."""
    return [
        request
        for request in rig.sandbox.emulators[emulator].requests
        if request.operation in operations or (not operations and request.operation != "download")
    ]


def received(rig: Rig, paid: Paid) -> int:
    """Count the paid requests that arrived and were not certainly refused."""
    return sum(
        request.fault != "refuse" and (request.status is None or not 400 <= request.status < 500)
        for request in asked(rig, paid.emulator, paid.submit)
    )


def charged(rig: Rig, emulator: str) -> float:
    """Return what the customer paid in all."""
    return sum(charge.amount for charge in rig.sandbox.emulators[emulator].charges)


async def ended(client: Client, check: str, job_id: object, *, hours: float = 1.0) -> Fields:
    """Check until the job ends."""
    with anyio.fail_after(hours * HOUR):
        while True:
            job = await call(client, check, job_id=job_id, wait_seconds=40)
            if job["status"] not in {"queued", "running"}:
                return job


async def side_by_side(
    client: Client, tool: str, calls: Sequence[Mapping[str, object]]
) -> list[Fields]:
    """Call a tool several times at once; return the results in the order of the calls."""
    results: dict[int, Fields] = {}

    async def one(index: int, arguments: Mapping[str, object]) -> None:
        results[index] = await call(client, tool, **arguments)

    async with anyio.create_task_group() as tasks:
        for index, arguments in enumerate(calls):
            tasks.start_soon(one, index, arguments)
    return [results[index] for index in range(len(calls))]


async def until(happened: Callable[[], object], *, every: float = 0.5) -> None:
    """Let time pass until something has happened that nobody is told of."""
    while not happened():  # noqa: ASYNC110 -- an emulator has no events
        await anyio.sleep(every)


async def settle() -> None:
    """Let every task run until it waits for time."""
    await trio.testing.wait_all_tasks_blocked()


def most_in_a_window(emulator: Emulator, seconds: float = 60.0) -> int:
    """Return the most requests (downloads aside) that fell into any window of this length."""
    times = sorted(r.at for r in emulator.requests if r.operation != "download")
    most, first = 0, 0
    for index, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, index - first + 1)
    return most
