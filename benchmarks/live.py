"""Jobs that run: what one weighs, what a check of one costs among many, what a due poll costs."""

from __future__ import annotations

import cProfile
import gc
import pstats
import random
import time
import tracemalloc
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel

from benchmarks.engine import CATALOGUE, UNLIMITED, engine
from benchmarks.measure import Number, percentile, quiet_p99, spread
from darkroom.catalogue.dispatch import desks
from darkroom.engine.person import Nobody
from darkroom.providers.messages import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from benchmarks.engine import EngineUnderTest
    from benchmarks.measure import Options
    from darkroom.catalogue.dispatch import ToolHandler
    from darkroom.providers.credentials import Key
    from darkroom.providers.messages import Request

MANY, FEW = 10_000, 100
DUE_AT_ONCE = 25
LONGEST_ROUND_SECONDS = 20.0
LATE_SECONDS = 3_600.0
"""Age at which jobs are asked about: each is due again long after all others."""
MICRO = 1e6


def live(options: Options) -> list[Number]:
    """Weigh a live job, and compare the check of one among many with one among few."""
    return [anyio.run(_weight, options), anyio.run(_checks, options)]


async def _weight(options: Options) -> Number:
    count = options.times(5_000, 200)
    with TemporaryDirectory() as folder:
        async with engine("discarding", Path(folder)) as running:
            for number in range(50):  # what is made once, for the first jobs
                await running.start(number)
            tracemalloc.start()
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            for number in range(count):
                await running.start(50 + number)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            known = len(running.runtime.context.registry)
    return Number(
        what="memory of a live job: registry, arguments, schedule",
        value=(after - before) / count / 1024,
        unit="KiB",
        at_most=4,
        label="memory of a live job",
        details={"jobs": float(known)},
    )


async def _checks(options: Options) -> Number:
    many, few = options.times(MANY, 500), FEW
    rounds, block = options.times(40, 2), 500
    with TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            measured: list[tuple[EngineUnderTest, list[str], list[float]]] = []
            for name, count in (("many", many), ("few", few)):
                running = await stack.enter_async_context(engine("memory", Path(folder) / name))
                ids = [(await running.start(number)).job.job_id for number in range(count)]
                measured.append((running, ids, []))
            settings = measured[0][0].engine.settings
            desk = desks([CATALOGUE], lambda _: True, settings)["zsky_check_job"]
            chance = random.Random(1)  # noqa: S311 -- repeatable, not secret
            gc.collect()
            gc.freeze()  # the jobs of one machine must not make the other one's collections slower
            for number in range(rounds + 1):
                for running, ids, samples in measured[:: 1 if number % 2 else -1]:
                    taken = await _check_some(running, desk, ids, block, chance)
                    if number:
                        samples.extend(taken)
            profile = [
                f"at {count:,}, "
                + await _profiled(_check_some(running, desk, ids, block, chance), block)
                for (running, ids, _), count in zip(measured, (many, few), strict=True)
                if not options.quick
            ]
            gc.unfreeze()
    (_, _, among_many), (_, _, among_few) = measured
    return Number(
        what=f"p99 of a check at {many:,} live jobs / at {few}, in the quieter rounds",
        value=quiet_p99(among_many, block) / quiet_p99(among_few, block),
        at_most=1.2,
        label=f"check among {many:,} jobs / among {few} (p99)",
        details={
            **spread(among_many, f"at {many:,} µs", MICRO),
            f"at {many:,} µs p99": percentile(among_many, 0.99) * MICRO,
            **spread(among_few, f"at {few} µs", MICRO),
            f"at {few} µs p99": percentile(among_few, 0.99) * MICRO,
        },
        profile=profile,
    )


async def _check_some(
    running: EngineUnderTest, desk: ToolHandler, ids: list[str], count: int, chance: random.Random
) -> list[float]:
    person = Nobody()
    samples: list[float] = []
    for job_id in chance.choices(ids, k=count):
        arguments = {"job_id": job_id, "wait_seconds": 0}
        began = time.perf_counter()
        await desk.run(running.engine, arguments, person)
        samples.append(time.perf_counter() - began)
    return samples


def poll(options: Options) -> list[Number]:
    """Measure what a due poll costs, from the schedule back to the schedule, without HTTP."""
    return [anyio.run(_polls, options)]


class Unchanged:
    """Has the answer ready: the job is still on its way."""

    def __init__(self) -> None:
        self._answer = Response(status=200, body={"job_id": "zj-1", "status": "processing"})

    async def send(self, request: Request, key: Key, *, once: bool) -> Response:
        """Answer a request."""
        del request, key, once
        return self._answer

    async def aclose(self) -> None:
        """Do nothing."""


async def _polls(options: Options) -> Number:
    jobs, rounds = options.times(1_000, 50), options.times(40, 2)
    with TemporaryDirectory() as folder:
        later = 0.0
        async with engine("memory", Path(folder), clock=lambda: time.time() + later) as running:
            for number in range(jobs):
                await running.start(number)
            running.runtime.context.clients[UNLIMITED.name].http_client = cast("Any", Unchanged())
            later = LATE_SECONDS
            await _ask_all(running)
            samples = [await _ask_all(running) / jobs for _ in range(rounds)]
            profile = [] if options.quick else [await _profiled(_ask_all(running), jobs)]
            spawning = min([await _spawn_only(running) for _ in range(rounds)])
    return Number(
        what=f"a due poll without HTTP, {jobs:,} live jobs",
        value=min(samples) * MICRO,
        unit="µs",
        at_most=20,
        digits=1,
        label="asking about a job (without HTTP)",
        details={
            **spread(samples, "µs", MICRO),
            "of it µs for the task of anyio that asks": spawning * MICRO,
        },
        profile=profile,
    )


async def _ask_all(running: EngineUnderTest) -> float:
    """Let every job be asked once, `DUE_AT_ONCE` at a time; return the seconds that it took."""
    schedule = running.runtime.context.schedule
    live_jobs = list(running.runtime.context.registry)
    polls, jobs = sum(job.polls for job in live_jobs), len(live_jobs)
    due = sorted(at for job in live_jobs if (at := schedule.due(("poll", job.job.job_id))))
    with anyio.fail_after(LONGEST_ROUND_SECONDS):
        began = time.perf_counter()
        for at in due[DUE_AT_ONCE - 1 :: DUE_AT_ONCE]:
            schedule.fire(at)
            while len(schedule) < jobs:
                await anyio.lowlevel.checkpoint()
        seconds = time.perf_counter() - began
    if sum(job.polls for job in live_jobs) != polls + jobs:
        raise AssertionError("a job was not asked")
    return seconds


async def _spawn_only(running: EngineUnderTest) -> float:
    """Return the seconds of a task that does nothing, spawned as the poller spawns."""
    done = 0

    async def nothing() -> None:
        nonlocal done
        done += 1

    began = time.perf_counter()
    for _ in range(DUE_AT_ONCE):
        running.runtime.context.spawn(nothing)
    while done < DUE_AT_ONCE:
        await anyio.lowlevel.checkpoint()
    return (time.perf_counter() - began) / DUE_AT_ONCE


async def _profiled(work: Awaitable[object], count: int) -> str:
    """Say where the time goes when ``work`` does something ``count`` times."""
    profiler = cProfile.Profile()
    profiler.enable()
    await work
    profiler.disable()
    entries = cast("Any", pstats.Stats(profiler)).stats  # get_stats_profile() rounds to ms
    spent: Counter[str] = Counter()
    for (_, _, name), (_, _, own, _, _) in entries.items():
        spent[name] += own
    times = [f"{name} {MICRO * own / count:.2f}" for name, own in spent.most_common(10)]
    return "own time, profiled, µs of each: " + ", ".join(times)
