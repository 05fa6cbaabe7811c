"""How many requests a time leaves, beside those that were sent lately."""

from __future__ import annotations

import math

import pytest

from darkroom.providers.client.capacity import capacity_of, least_distance
from darkroom.providers.provider import Rate

MINUTE, SECOND = Rate(20, 60), Rate(4, 1)


@pytest.mark.parametrize(
    ("seconds", "held", "left"), [(10, 0, 17), (49, 0, 17), (51, 0, 19), (75, 0, 37), (10, 10, 0)]
)
def test_a_place_counts_again_a_window_after_its_request_was_over(
    seconds: float, held: float, left: float
) -> None:
    assert capacity_of([MINUTE], 1, [-10.0, -10.0], 0.0, seconds, held) == left


def test_the_tightest_rate_decides_and_without_rates_nothing_does() -> None:
    assert capacity_of([MINUTE, SECOND], 0, [], 0.0, 2.5, 0.0) == 12
    assert capacity_of([], 5, [], 0.0, 2.5, 0.0) == math.inf


def test_only_short_windows_set_a_distance() -> None:
    assert least_distance([MINUTE, SECOND]) == 0.25
    assert least_distance([MINUTE]) == 0
