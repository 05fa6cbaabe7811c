"""The three ways to count requests a minute: how many each lets through, and when the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from darkroom_tools.emulators.windows import FixedWindow, Gcra, SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom_tools.emulators.windows import Window

WAYS = (SlidingWindow, FixedWindow, Gcra)


def admitted(window: Window, times: list[float]) -> list[float]:
    """Return the times at which a request was let through."""
    return [at for at in times if window.wait(at) == 0]


@pytest.mark.parametrize("way", WAYS)
def test_twenty_at_once_are_let_through_and_no_more(way: Callable[[int, float], Window]) -> None:
    assert len(admitted(way(20, 60), [120.0] * 25)) == 20


@pytest.mark.parametrize(("way", "wait"), [(SlidingWindow, 60), (FixedWindow, 50), (Gcra, 3)])
def test_the_wait_is_until_the_next_is_let_through(
    way: Callable[[int, float], Window], wait: float
) -> None:
    window = way(20, 60)
    admitted(window, [130.0] * 20)
    left = window.wait(130.0)
    assert left == pytest.approx(wait)
    assert window.wait(130.0 + left - 0.01) > 0
    assert window.wait(130.0 + left) == 0


@pytest.mark.parametrize("way", [FixedWindow, Gcra])
def test_more_than_the_number_can_come_within_a_minute(
    way: Callable[[int, float], Window],
) -> None:
    times = [59.0 + 60 * 10] * 20 + [60.0 * 11 + 1 + second for second in range(50)]
    assert len(admitted(way(20, 60), times)) > 20
    assert len(admitted(SlidingWindow(20, 60), times)) == 20
