"""A batch of a thousand against each provider's documented limits, beside the computed optimum.

The emulator enforces the limits. On virtual time an hour passes in seconds; one short batch runs
in real time, over real sockets.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import anyio
import trio
import trio.testing

from benchmarks.courses import COURSES, Course, optimum
from benchmarks.measure import Number, elsewhere
from darkroom.config.settings import load
from darkroom.engine.dependencies import Dependencies
from darkroom.mcp.build import build_server
from darkroom_tools import CATALOGUE
from darkroom_tools.emulators.kit import Offload
from darkroom_tools.emulators.sandbox import Sandbox, serve
from mcp import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.measure import Options
    from darkroom.core.json_types import JsonObject
    from darkroom.engine.engine import Engine
    from darkroom.mcp.server import DarkroomServer
    from darkroom_tools.emulators.record import Asked
    from darkroom_tools.emulators.zupertry.emulator import ZupertryEmulator

EPOCH = 1.8e9
MOST_OVER = 2.0
"""Percent over the optimum that we allow ourselves."""

CREDITS = 100_000
NOT_COUNTED = "download"
RATE_LIMITED = 429

REAL = "claid"
REAL_ITEMS = 70
"""As many as meet a limit within a minute: their requests do not fit into one window."""


def batches(options: Options) -> list[Number]:
    """Run a thousand items through every provider that documents a rate."""
    numbers: list[Number] = []
    in_real_time = options.times(REAL_ITEMS, 3)
    with elsewhere() as process:
        real = process.submit(_for_real, in_real_time)
        for course in COURSES.values():
            items = options.times(course.items, 30)
            clock = trio.testing.MockClock(autojump_threshold=0)
            numbers += _numbers(course, items, trio.run(run, course, items, clock=clock))
        how = "over real sockets"
        return [*numbers, *_numbers(COURSES[REAL], in_real_time, real.result(), how)]


def _for_real(items: int) -> Outcome:
    return anyio.run(run_for_real, COURSES[REAL], items)


def _numbers(course: Course, items: int, outcome: Outcome, how: str = "") -> list[Number]:
    best = optimum(course, items)
    limits = f"({course.limits}, {how})" if how else f"({course.limits})"
    return [
        Number(
            what=f"{items:,} items at {course.what} {limits}, time over the computed optimum",
            value=100 * (outcome.seconds / best - 1),
            unit="%",
            at_most=MOST_OVER if course.judged else None,
            label=f"{course.what}, {items:,} items {limits}",
            details={
                "seconds": outcome.seconds,
                "optimum": best,
                **{name: float(count) for name, count in outcome.by_operation().items()},
            },
        ),
        Number(
            what=f"{items:,} items at {course.what} {limits}, answers 429 + duplicates + lost",
            value=outcome.too_many + abs(outcome.paid - items) + abs(items - outcome.outputs),
            at_most=0,
            digits=0,
            details={
                "429": float(outcome.too_many),
                "paid for": outcome.paid,
                "outputs": float(outcome.outputs),
                **{
                    f"most in any {rate.seconds:g} s": float(
                        most_in_a_window(outcome.requests, rate.seconds)
                    )
                    for rate in course.rates
                },
            },
        ),
    ]


class DrawOnce(Offload):
    """Draws each sort of picture once: what is measured is when, not what."""

    def __init__(self) -> None:
        self._drawn: dict[object, Any] = {}

    async def __call__(self, function: Callable[[], Any]) -> Any:
        """Return what the first function of this sort returned."""
        sort = cast("partial[Any]", function).func
        if sort not in self._drawn:
            self._drawn[sort] = function()
        return self._drawn[sort]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: as the server knows it, and as the provider does."""

    seconds: float
    outputs: int
    paid: float
    requests: Sequence[Asked]

    @property
    def too_many(self) -> int:
        """How many answers were 429."""
        return sum(each.status == RATE_LIMITED for each in self.requests)

    def by_operation(self) -> Counter[str]:
        """Count the requests by what they asked."""
        return Counter(each.operation for each in self.requests)


def most_in_a_window(requests: Sequence[Asked], seconds: float) -> int:
    """Return the most requests in any window of this length."""
    times = sorted(each.at for each in requests)
    most = first = 0
    for index, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        most = max(most, index - first + 1)
    return most


async def run(course: Course, items: int) -> Outcome:
    """Run a batch through the server on the virtual clock."""
    with TemporaryDirectory() as folder:
        server, sandbox = server_for(course, Path(folder))
        return await drive(course, items, server, sandbox)


def server_for(
    course: Course, folder: Path, download: str = "never"
) -> tuple[DarkroomServer, Sandbox]:
    """Build a server on the virtual clock, and the emulators behind it."""

    def clock() -> float:
        return EPOCH + trio.current_time()

    switches = cast("Any", {course.emulator: course.switches})
    sandbox = Sandbox(clock=clock, offload=DrawOnce(), switches=switches)
    way = sandbox.transport()
    dependencies = {
        "clock": clock,
        "monotonic": clock,
        "run": _inline,
        "transport": way,
        "sandbox": way,
    }
    return _server(course, folder, sandbox, dependencies, download), sandbox


def _server(
    course: Course,
    folder: Path,
    sandbox: Sandbox,
    dependencies: Mapping[str, Any],
    download: str = "never",
) -> DarkroomServer:
    tryons = cast("ZupertryEmulator", sandbox.emulators["zupertry"])
    for organisation in tryons.organisations.values():
        organisation.credits = CREDITS
    variables = {
        **sandbox.environment(),
        "DARKROOM_JOBS__STORE": "memory",
        "DARKROOM_JOBS__STATE_DIR": str(folder / "state"),
        "DARKROOM_RESULTS__FOLDER": str(folder / "results"),
        "DARKROOM_RESULTS__DOWNLOAD": download,
        **course.environment,
    }
    settings = load(CATALOGUE.providers, variables)
    return build_server(settings, [CATALOGUE], Dependencies(environment=variables, **dependencies))


async def run_for_real(course: Course, items: int) -> Outcome:
    """Run a batch in real time, over sockets to emulators that are served on loopback."""
    sandbox = Sandbox(offload=DrawOnce(), switches=cast("Any", {course.emulator: course.switches}))
    answers = anyio.Event()
    outcomes: list[Outcome] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(serve, sandbox, ready=lambda _: answers.set()))
        await answers.wait()
        with TemporaryDirectory() as folder:
            server = _server(course, Path(folder), sandbox, {})
            outcomes.append(await drive(course, items, server, sandbox))
        tasks.cancel_scope.cancel()
    return outcomes[0]


async def _inline(work: Callable[[], Any], /) -> Any:
    return work()


async def drive(course: Course, items: int, server: DarkroomServer, sandbox: Sandbox) -> Outcome:
    """Start a batch as a host does, check it until it is done, and count."""
    async with Client(server) as client:
        report = await _call(client, "start_batch", course.batch(sandbox, items))
        look: JsonObject = {"batch_id": report["batch_id"], "wait_seconds": 40}
        while report["status"] == "running":
            report = await _call(client, "check_batch", look)
        engine = cast("Engine", server.engine)  # a client is connected
        jobs = (await (await engine.batches()).report(str(report["batch_id"]))).jobs
    emulator = sandbox.emulators[course.emulator]
    requests = [each for each in emulator.requests if each.operation != NOT_COUNTED]
    return Outcome(
        max(job.ended_at or 0.0 for job in jobs) - requests[0].at,
        sum(len(job.outputs) for job in jobs),
        sum(charge.amount for charge in emulator.charges),
        requests,
    )


async def _call(client: Client, tool: str, arguments: JsonObject) -> JsonObject:
    result = await client.call_tool(tool, cast("Any", arguments))
    if result.is_error:
        raise RuntimeError(result.content)
    return cast("JsonObject", result.structured_content)
