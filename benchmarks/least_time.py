"""A batch of every size beside an oracle that knows how long each job will take.

The oracle has the provider's limits, sends what we send and looks once at each job (once at each
page of jobs where a list shows many), at the moment it ends or as soon after as a request may leave.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import trio
import trio.testing

from benchmarks.batches import drive, server_for
from benchmarks.courses import COURSES, Course, earliest
from benchmarks.measure import Number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.batches import Outcome
    from benchmarks.measure import Options

TARGETS = Path(__file__).parent / "targets.toml"
SIZES = (1, 2, 4, 8, 9, 10, 20, 40, 100, 1_000)
SEEDS = {1_000: 1, 100: 2, 40: 3, 20: 3}
"""How many seeds a size is run with; the small ones, whose times differ more, with `MOST_SEEDS`."""

MOST_SEEDS = 6
PROVIDERS = ("zsky", "zsky-video", "zupertry", "claid", "zyng-1", "zyng-2", "zyng-3")


class Durations(random.Random):
    """The emulator's randomness; remembers the share of its time that each job was given."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.shares: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        """Draw a share."""
        self.shares.append(super().uniform(a, b))
        return self.shares[-1]


@dataclass(frozen=True, slots=True)
class Cell:
    """What a batch of one size took at one provider, seed by seed."""

    ours: Sequence[float]
    oracle: Sequence[float]
    too_many: int
    lost: int

    @property
    def ratio(self) -> float:
        """Return our mean time over the oracle's."""
        return fmean(self.ours) / fmean(self.oracle)


def least_time(options: Options) -> list[Number]:
    """Run every size at every provider; misses come first, the furthest off before the others."""
    numbers = [
        number
        for name in PROVIDERS
        for items in SIZES[: options.times(len(SIZES), 3)]
        for number in rows(
            name, items, measure(name, items, options.times(SEEDS.get(items, MOST_SEEDS), 1))
        )
    ]
    return ordered(numbers)


def ordered(numbers: Sequence[Number]) -> list[Number]:
    """Return the rows, misses first, and the furthest off before the others."""
    return sorted(numbers, key=lambda number: (number.met, number.digits == 0, -number.value))


def rows(name: str, items: int, cell: Cell) -> list[Number]:
    """Return the two rows of a cell: its time, and what must not happen."""
    targets = tomllib.loads(TARGETS.read_text(encoding="utf-8"))["least_time"]
    which = f"{items:,} items at {COURSES[name].what}"
    return [
        Number(
            what=f"{which}, time over the oracle's",
            value=cell.ratio,
            at_most=targets["large" if items >= targets["large_from"] else "small"],
            digits=3,
            details={
                "seconds": fmean(cell.ours),
                "oracle": fmean(cell.oracle),
                "worst seed": max(cell.ours),
                "seeds": len(cell.ours),
            },
        ),
        Number(
            what=f"{which}, answers 429 + lost + paid twice",
            value=cell.too_many + cell.lost,
            at_most=targets["too_many"],
            digits=0,
        ),
    ]


def measure(name: str, items: int, seeds: int, *, whole: bool = True) -> Cell:
    """Run one size at one provider, once for each seed; ``whole``: with journal and downloads."""
    course = COURSES[name]
    ours: list[float] = []
    best: list[float] = []
    too_many = lost = 0
    for seed in range(seeds):
        clock = trio.testing.MockClock(autojump_threshold=0)
        outcome, durations = trio.run(partial(_run, course, items, seed, whole=whole), clock=clock)
        ours.append(outcome.seconds)
        best.append(oracle(course, durations))
        too_many += outcome.too_many
        lost += int(abs(outcome.paid - items) + abs(outcome.outputs - items))
    return Cell(ours, best, too_many, lost)


async def _run(
    course: Course, items: int, seed: int, *, whole: bool
) -> tuple[Outcome, list[float]]:
    """Run a batch; return what became of it, and how long each of its jobs took."""
    store = "sqlite" if whole else "memory"
    course = replace(course, environment={**course.environment, "DARKROOM_JOBS__STORE": store})
    with TemporaryDirectory() as folder:
        server, sandbox = server_for(course, Path(folder), "always" if whole else "never")
        chance = sandbox.emulators[course.emulator].random = Durations(seed)
        outcome = await drive(course, items, server, sandbox)
    return outcome, [share * course.declared for share in chance.shares]


def oracle(course: Course, durations: Sequence[float]) -> float:
    """Return the least seconds in which jobs of these durations are started and seen to end."""
    if course.slots is not None:
        return min(_with_slots(course, durations, first=first) for first in ("look", "start"))
    opens = course.opens(len(durations))
    leave = earliest(course.rates, opens + len(durations) + course.polls(len(durations)))
    ends = (at + took for at, took in zip(leave[opens:], durations, strict=False))
    return max(leave[-1], *ends)


def _with_slots(course: Course, durations: Sequence[float], *, first: str) -> float:
    """Start each job as soon as a slot and a request are free, look when it has ended."""
    sent: list[float] = []
    running: list[float] = []
    now, started = 0.0, 0
    while started < len(durations) or running:
        free = [sent[-r.requests] + r.seconds for r in course.rates if len(sent) >= r.requests]
        now = max([now, *free])
        may_start = started < len(durations) and len(running) < (course.slots or 0)
        may_look = bool(running) and min(running) <= now
        if may_start and not (may_look and first == "look"):
            running.append(now + durations[started])
            started += 1
            sent.append(now)
        elif may_look:
            running.remove(min(running))
            sent.append(now)
        else:
            now = min(running)
    return sent[-1]
