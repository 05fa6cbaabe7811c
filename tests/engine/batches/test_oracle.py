"""Batches beside the least time that an oracle needs, which knows how long each job takes."""

from __future__ import annotations

import pytest
from benchmarks.least_time import measure

SMALL, LARGE = 1.15, 1.02


@pytest.mark.parametrize(
    ("provider", "items", "most"),
    [
        ("zsky", 2, SMALL),
        ("zsky", 4, SMALL),
        ("zupertry", 8, SMALL),
        ("zupertry", 100, LARGE),
        ("claid", 4, SMALL),
        ("zyng-1", 20, SMALL),
    ],
)
def test_a_batch_takes_little_more_than_the_least_time(
    provider: str, items: int, most: float
) -> None:
    cell = measure(provider, items, 2)
    assert cell.ratio <= most
    assert (cell.too_many, cell.lost) == (0, 0)
