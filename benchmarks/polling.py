"""How often a provider is asked about a job, and how late we know that it ended, on virtual time."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import trio
import trio.testing

from benchmarks.engine import VIDEO, engine
from benchmarks.measure import Number, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.measure import Options

JOB_SECONDS = 60.0
SPREADS = (0.1, 0.2, 0.3)
"""Standard deviation of how long jobs take, as a share of the mean."""

FORESEEABLE = 0.2
"""Beyond it no schedule has both few questions and little delay: the targets are for up to this."""

SHORTEST_SECONDS = 5.0
TAIL = 0.6
"""Heavy-tailed: the logarithm's deviation, so that one job in twenty takes 2.7 times the usual."""

FIXED_SECONDS = 2.0
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
EPOCH = 1.8e9


@dataclass(frozen=True, slots=True)
class Followed:
    """How one job was followed; ``late`` is a share of how long it took."""

    polls: int
    late: float


def polling(options: Options) -> list[Number]:
    """Follow jobs of about a minute in three ways."""
    numbers: list[Number] = []
    chances = {
        **{
            f"60 s ± {100 * spread:.0f} %": (_normal(spread), spread <= FORESEEABLE)
            for spread in SPREADS
        },
        "60 s, heavy-tailed": (_heavy_tailed, False),
    }
    for kind, (sample, judged) in chances.items():
        durations = _durations(sample, options.times(200, 5))
        ours = trio.run(_ours, durations, clock=trio.testing.MockClock(autojump_threshold=0))
        numbers += _numbers(kind, ours, durations, judged=judged)
    return numbers


def _normal(spread: float) -> Callable[[random.Random], float]:
    return lambda chance: chance.gauss(JOB_SECONDS, spread * JOB_SECONDS)


def _heavy_tailed(chance: random.Random) -> float:
    return chance.lognormvariate(math.log(JOB_SECONDS), TAIL)


def _durations(sample: Callable[[random.Random], float], count: int) -> list[float]:
    chance = random.Random(60)  # noqa: S311 -- repeatable, not secret
    return [max(SHORTEST_SECONDS, sample(chance)) for _ in range(count)]


def _numbers(
    kind: str, ours: list[Followed], durations: list[float], *, judged: bool
) -> list[Number]:
    fixed = [_follow(duration, _fixed()) for duration in durations]
    doubling = [_follow(duration, _doubling()) for duration in durations]
    ways = {"every 2 s": fixed, "doubling": doubling}
    return [
        Number(
            what=f"polls of a job of {kind}, mean",
            value=fmean(job.polls for job in ours),
            at_most=8 if judged else None,
            digits=1,
            label=kind,
            details={
                "p95": float(percentile([job.polls for job in ours], 0.95)),
                **{way: fmean(job.polls for job in jobs) for way, jobs in ways.items()},
            },
        ),
        Number(
            what=f"delay of noticing the end of a job of {kind}, mean, in % of its time",
            value=100 * fmean(job.late for job in ours),
            unit="%",
            at_most=5 if judged else None,
            digits=1,
            label=kind,
            details={
                "p95 %": 100 * percentile([job.late for job in ours], 0.95),
                **{f"{way} %": 100 * fmean(job.late for job in jobs) for way, jobs in ways.items()},
            },
        ),
    ]


async def _ours(durations: Sequence[float]) -> list[Followed]:
    """Follow jobs one after the other, as the server does, learning on the way."""
    ends: dict[str, float] = {}

    def clock() -> float:
        return EPOCH + trio.current_time()

    def ended(provider_id: str) -> bool:
        return clock() >= ends[provider_id]

    followed: list[Followed] = []
    with TemporaryDirectory() as folder:
        async with engine("memory", Path(folder), ended=ended, clock=clock) as running:
            for number, duration in enumerate(durations):
                live = await running.start(number, VIDEO)
                provider_id = live.job.provider_job_id or ""
                ends[provider_id] = (live.job.submitted_at or 0.0) + duration
                await running.runtime.context.registry.wait(
                    live, 10 * duration, until=lambda live: live.settled
                )
                noticed = live.job.ended_at or clock()
                late = (noticed - ends[provider_id]) / duration
                followed.append(Followed(running.provided.asked[provider_id], late))
    return followed


def _follow(duration: float, intervals: Iterator[float]) -> Followed:
    at, polls = 0.0, 0
    while at < duration:
        at += next(intervals)
        polls += 1
    return Followed(polls, (at - duration) / duration)


def _fixed() -> Iterator[float]:
    while True:
        yield FIXED_SECONDS


def _doubling() -> Iterator[float]:
    interval = FIRST_BACKOFF_SECONDS
    while True:
        yield interval
        interval = min(2 * interval, LONGEST_BACKOFF_SECONDS)
