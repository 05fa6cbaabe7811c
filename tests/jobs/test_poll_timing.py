"""When a job is asked about, from what is known of its operation and what may be wasted."""

from __future__ import annotations

import random
from statistics import fmean

import pytest

from darkroom.jobs.poll_timing import PollEstimate

PLENTY = 1_000.0


def followed(estimate: PollEstimate, duration: float, extra: float) -> tuple[float, int]:
    """Follow one job; return the age at which its end was seen, and how often it was asked."""
    age, missed, polls = 0.0, None, 0
    while True:
        age += estimate.next(age, extra - polls)
        polls += 1
        if age >= duration:
            estimate.observe(age, missed)
            return age, polls
        missed = age


@pytest.mark.parametrize("guess", [6.0, 20.0, 180.0, 600.0])
def test_a_guess_wrong_by_3_or_10_times_is_mended_after_five_jobs(guess: float) -> None:
    chance = random.Random(1)  # noqa: S311 -- repeatable, not secret
    estimate = PollEstimate.of(guess, 2.0)
    late: list[float] = []
    polls: list[int] = []
    for number in range(45):
        duration = chance.gauss(60, 6)
        seen, asked = followed(estimate, duration, PLENTY)
        if number >= 5:
            late.append(seen / duration - 1)
            polls.append(asked)
    assert fmean(late) <= 0.08
    assert fmean(polls) <= 10


def test_a_job_of_one_second_is_seen_within_one_and_a_half() -> None:
    estimate = PollEstimate.of(6.0, 2.0)
    assert [followed(estimate, 1.0, PLENTY)[0] <= 1.5 for _ in range(8)] == [True] * 8


def test_a_job_that_may_waste_nothing_is_asked_about_no_earlier_than_one_that_may() -> None:
    assert PollEstimate.of(6.0, 2.0).next(0.0, 0) >= PollEstimate.of(6.0, 2.0).next(0.0, PLENTY)


@pytest.mark.parametrize("extra", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("duration", [4.9, 6.0, 7.5])
def test_no_more_is_wasted_than_may_be(extra: int, duration: float) -> None:
    """The right guess: what is to spare lasts until the job ends."""
    assert followed(PollEstimate.of(6.0, 2.0), duration, extra)[1] <= extra + 1
