"""A key that a provider would suspend is not driven into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from darkroom.jobs.quota import endangers
from darkroom.providers.provider import Suspension
from tests.engine.batches.support import prompts, until_done
from tests.engine.support import HOUR, asked, zsky
from tests.harness import call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.providers.values import Status

pytestmark = pytest.mark.anyio

RULE = Suspension(share=0.5, least=10, window_seconds=1_800, suspended_seconds=86_400)
GOOD, BAD, OPEN = "completed", "blocked", "running"
KEY = "zsky_live_sandbox_not_a_real_key"


@pytest.mark.parametrize(
    ("newest_first", "danger"),
    [
        ([], False),
        ([BAD] * 8, False),
        ([BAD] * 9, True),
        ([GOOD] * 9 + [BAD] * 3, False),
        ([OPEN] * 3 + [GOOD] * 6, False),
        ([OPEN] * 5 + [GOOD] * 4, True),
        ([BAD] * 9 + [GOOD] * 30, True),  # once the good ones have left the window
        ([BAD] * 4 + [GOOD] * 5, False),
        (["failed"] * 20, False),
    ],
)
def test_the_worst_that_could_become_of_an_attempt_is_what_counts(
    newest_first: list[Status], *, danger: bool
) -> None:
    assert endangers(newest_first, RULE) is danger


def mixed(unsafe: int, good: int, trigger: str) -> dict[str, Any]:
    """Return a batch of prompts of which many are refused, the unsafe ones first."""
    asked_for = [f"{trigger} {n}" for n in range(unsafe)] + [f"Harbour {n}" for n in range(good)]
    return {**prompts(1), "for_each": {"prompt": asked_for}}


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("trigger", ["blocked-prompt", "blocked-output"])
async def test_of_25_unsafe_and_15_good_prompts_the_key_lives_and_the_good_ones_are_made(
    clock: Callable[[], float], tmp_path: Path, trigger: str, store: str
) -> None:
    server = rig(
        clock,
        tmp_path,
        store=store,  # pyright: ignore[reportArgumentType] -- one of two
        environment={"DARKROOM_RESULTS__DOWNLOAD": "never"},
    )
    async with server.client() as client:
        started = await call(client, "start_batch", **mixed(25, 15, trigger))
        await anyio.sleep(3 * HOUR)
        report = await until_done(client, started["batch_id"], hours=0.1)
    assert report["counts"] == {"completed": 15, "blocked": 25}
    assert zsky(server).keys[KEY].suspended_until < clock()
    assert 403 not in {each.status for each in asked(server, "zsky")}


async def test_what_waits_for_the_window_says_so(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        started = await call(client, "start_batch", **mixed(12, 0, "blocked-prompt"))
        report = await call(client, "check_batch", batch_id=started["batch_id"], wait_seconds=40)
        assert report["counts"]["blocked"] == 9
        jobs = (await call(client, "list_jobs", status="queued"))["jobs"]
        assert {job["queued_for"] for job in jobs} == {"account"}
        assert "would suspend the key" in jobs[0]["error"]["message"]
        await anyio.sleep(HOUR)
        report = await until_done(client, started["batch_id"], hours=0.1)
    assert report["counts"] == {"blocked": 12}


async def test_good_prompts_are_not_held_up(clock: Callable[[], float], tmp_path: Path) -> None:
    server = rig(clock, tmp_path, environment={"DARKROOM_RESULTS__DOWNLOAD": "never"})
    async with server.client() as client:
        began = clock()
        started = await call(client, "start_batch", **prompts(30))
        await until_done(client, started["batch_id"])
    assert clock() - began < HOUR / 10
