"""Short batches at a scarce rate: no request is wasted, so that none waits for the next window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom_tools.emulators.windows import FixedWindow, Gcra, SlidingWindow
from darkroom_tools.emulators.zsky import emulator as zsky
from tests.engine.batches.support import prompts, until_done
from tests.engine.support import asked, charged, most_in_a_window
from tests.harness import Rig, call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def seconds_for(dependencies: Rig, clock: Callable[[], float], count: int) -> float:
    """Run a batch of so many pictures to its end; return how long it took."""
    async with dependencies.client() as client:
        began = clock()
        started = await call(client, "start_batch", **prompts(count))
        ended = await until_done(client, started["batch_id"])
        assert ended["counts"] == {"completed": count}
        return clock() - began


async def test_ten_pictures_of_five_seconds_take_less_than_half_a_minute(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten starts and ten looks are the twenty requests of a minute: none may be wasted."""
    monkeypatch.setattr(zsky, "SHORTEST", 1.0)
    monkeypatch.setattr(zsky, "LONGEST", 1.0)
    dependencies = rig(clock, tmp_path, time_scale=5 / zsky.SECONDS["image"])
    assert 20 <= await seconds_for(dependencies, clock, 10) <= 27
    assert len(asked(dependencies, "zsky")) == 20


@pytest.mark.parametrize(("count", "most"), [(9, 24), (10, 32), (20, 92), (40, 212)])
@pytest.mark.parametrize("seed", [0, 1])
async def test_pictures_that_take_more_or_less_long_waste_no_request(
    clock: Callable[[], float], tmp_path: Path, count: int, most: float, seed: int
) -> None:
    """20 and 40 pictures need 40 and 80 requests: one minute, and three, before the last."""
    dependencies = rig(clock, tmp_path, seed=seed)
    assert await seconds_for(dependencies, clock, count) <= most
    assert len(asked(dependencies, "zsky", "generate_image", "get_job")) == 2 * count
    assert most_in_a_window(dependencies.sandbox.emulators["zsky"]) <= 20
    assert all(request.status != 429 for request in asked(dependencies, "zsky"))


@pytest.mark.parametrize(("count", "most"), [(1, 0.8), (4, 2.5)])
@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_a_few_pictures_are_seen_soon_after_they_end(
    clock: Callable[[], float], tmp_path: Path, count: int, most: float, seed: int
) -> None:
    """Three run at once: a fourth picture begins when the first of them was seen to end."""
    dependencies = rig(clock, tmp_path, seed=seed)
    began = clock()
    took = await seconds_for(dependencies, clock, count)
    emulator = dependencies.sandbox.emulators["zsky"]
    assert isinstance(emulator, zsky.ZskyEmulator)
    (account, *_) = (each for each in emulator.keys.values() if each.jobs)
    assert began + took - max(job.finishes_at for job in account.jobs.values()) <= most
    assert most_in_a_window(emulator) <= 20
    assert all(request.status != 429 for request in asked(dependencies, "zsky"))


@pytest.mark.parametrize(("count", "times"), [(9, 1), (10, 0), (200, 0)])
@pytest.mark.parametrize("dry_run", [True, False])
async def test_the_allowance_is_asked_about_only_with_a_request_that_no_job_needs(
    clock: Callable[[], float], tmp_path: Path, count: int, times: int, *, dry_run: bool
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        await call(client, "start_batch", **prompts(count), dry_run=dry_run)
    assert len(asked(dependencies, "zsky", "usage")) == times


async def test_it_is_not_asked_about_while_other_work_waits(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        await call(client, "start_batch", **prompts(40))
        await call(client, "start_batch", **prompts(1, "Forest"))
    assert asked(dependencies, "zsky", "usage") == []


async def test_what_others_used_of_the_month_is_said_where_it_could_be_asked(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    emulator = dependencies.sandbox.emulators["zsky"]
    assert isinstance(emulator, zsky.ZskyEmulator)
    emulator.keys[zsky.TEST_KEY].used["image", "2026-11"] = 999
    async with dependencies.client() as client:
        few = await call(client, "start_batch", **prompts(2), dry_run=True)
        many = await call(client, "start_batch", **prompts(20), dry_run=True)
    assert few["warnings"][0].startswith("1 of the month's allowance at ZSky are left for 2")
    assert "1 of the month's allowance" in many["warnings"][0], "as it was read for the few"


@pytest.mark.parametrize("window", [SlidingWindow, FixedWindow, Gcra])
@pytest.mark.parametrize("count", [9, 24])
async def test_no_way_to_count_a_minute_answers_429(
    clock: Callable[[], float], tmp_path: Path, window: type[SlidingWindow], count: int
) -> None:
    dependencies = rig(clock, tmp_path, switches={"zsky": {"window": window}})
    assert await seconds_for(dependencies, clock, count) <= (24 if count == 9 else 155)
    assert all(request.status != 429 for request in asked(dependencies, "zsky"))
    assert charged(dependencies, "zsky") == count


async def test_where_another_program_uses_a_fifth_of_the_rate_nothing_is_lost_or_paid_twice(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    """ZSky does not say what is left of the rate, so that only a 429 tells of the other program."""
    dependencies = rig(clock, tmp_path)
    emulator = dependencies.sandbox.emulators["zsky"]
    assert isinstance(emulator, zsky.ZskyEmulator)
    window = emulator.keys[zsky.TEST_KEY].window

    async def another_program() -> None:
        while True:
            window.wait(clock())
            await anyio.sleep(zsky.WINDOW_SECONDS / (zsky.REQUESTS_PER_MINUTE / 5))

    took = math.inf
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(another_program)
        took = await seconds_for(dependencies, clock, 20)
        tasks.cancel_scope.cancel()
    assert charged(dependencies, "zsky") == 20
    assert took <= 1.5 * 84 / 0.8  # the least time of 20 pictures with four fifths of the rate
