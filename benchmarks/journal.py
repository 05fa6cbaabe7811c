"""What it costs that nothing is forgotten: the journal on disk beside one in memory."""

from __future__ import annotations

import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

import anyio

from benchmarks.engine import engine
from benchmarks.measure import Number, percentile, spread

if TYPE_CHECKING:
    from benchmarks.engine import EngineUnderTest
    from benchmarks.measure import Detail, Options

TICK_SECONDS = 0.001
AT_ONCE = 16
STALL_MS = 20


def journal(options: Options) -> list[Number]:
    """Compare the life of a job with and without the journal; watch the event loop meanwhile."""
    return anyio.run(_journal, options)


async def _journal(options: Options) -> list[Number]:
    rounds, jobs = options.times(12, 1), options.times(64, 16)
    samples: dict[str, list[float]] = {"sqlite": [], "memory": []}
    stalls: dict[str, list[float]] = {"sqlite": [], "memory": []}
    stores: tuple[Literal["sqlite", "memory"], ...] = ("sqlite", "memory")
    for number in range(rounds + 1):
        for store in stores[:: 1 if number % 2 else -1]:
            with TemporaryDirectory() as folder:
                async with engine(store, Path(folder), ended=lambda _: True) as running:
                    late: list[float] = []
                    seconds = await _lives(running, jobs, late)
            if number:
                samples[store].append(seconds / jobs)
                stalls[store].extend(late)
    durable, fleeting = min(samples["sqlite"]), min(samples["memory"])
    details: dict[str, Detail] = {
        **spread(samples["sqlite"], "journal ms"),
        **spread(samples["memory"], "memory ms"),
    }
    return [
        Number(
            what=f"a job from start to end, {AT_ONCE} at once, with the journal / in memory",
            value=durable / fleeting,
            details=details,
        ),
        Number(
            what="stall of the event loop while the journal commits, p99",
            value=percentile(stalls["sqlite"], 0.99) * 1e3,
            unit="ms",
            at_most=STALL_MS,
            label="pause while the journal commits (p99)",
            details={
                "median ms": percentile(stalls["sqlite"], 0.5) * 1e3,
                "longest ms": max(stalls["sqlite"]) * 1e3,
                "p99 in memory ms": percentile(stalls["memory"], 0.99) * 1e3,
                "ticks": float(len(stalls["sqlite"])),
            },
        ),
    ]


async def _lives(running: EngineUnderTest, jobs: int, late: list[float]) -> float:
    """Start jobs and follow them to their ends; return the seconds. ``late``: how late ticks came."""
    turns = anyio.CapacityLimiter(AT_ONCE)

    async def one(number: int) -> None:
        async with turns:
            job = await running.start(number)
            running.runtime.context.schedule.fire(math.inf)  # the poll that is due later is due now
            await running.runtime.context.registry.wait(job, 30, until=lambda live: live.settled)

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK_SECONDS
            await anyio.sleep(TICK_SECONDS)
            late.append(max(0.0, time.perf_counter() - due))

    seconds, began = 0.0, time.perf_counter()
    async with anyio.create_task_group() as outer:
        outer.start_soon(tick)
        async with anyio.create_task_group() as tasks:
            for number in range(jobs):
                tasks.start_soon(one, number)
        seconds = time.perf_counter() - began
        outer.cancel_scope.cancel()
    return seconds
