"""What is old is forgotten, no cap is loosened by it, and `get_spending` says since when it knows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import pytest

from tests.engine.support import DAY, ended
from tests.harness import call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

IMAGE, CHECK = "zsky_start_image", "zsky_check_job"


def since(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


async def test_the_ledger_forgets_with_the_jobs_and_says_since_when_it_knows(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = rig(clock, tmp_path, store="sqlite")
    began = clock()
    async with first.client() as client:
        with anyio.fail_after(DAY):
            job = await call(client, IMAGE, prompt="old")
            await ended(client, CHECK, job["job_id"])
            shown = await call(client, "get_spending", since=since(began))
            assert "known_since" not in shown
    await anyio.sleep(45 * DAY)
    second = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with second.client() as client:
        await call(client, IMAGE, prompt="new")  # the first that says how late it is
        shown = await call(client, "get_spending", since=since(began))
        assert [each["spent"] for each in shown["providers"]] == [2]
    again = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with again.client() as client:
        with anyio.fail_after(DAY):
            await call(client, "list_jobs")
            await anyio.sleep(1)
            shown = await call(client, "get_spending", since=since(began))
            today = await call(client, "get_spending")
    assert [each["spent"] for each in shown["providers"]] == [1]
    assert shown["known_since"].startswith("2026-12-07T09:00"), "thirty days before"
    assert shown["since"] == "2026-11-22T00:00:00Z", "as it was asked"
    assert "known_since" not in today


async def test_a_server_that_runs_for_months_forgets_too(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, store="sqlite")
    async with dependencies.client() as client:
        with anyio.fail_after(50 * DAY):
            old = await call(client, IMAGE, prompt="old")
            await ended(client, CHECK, old["job_id"])
            await anyio.sleep(45 * DAY)
            new = await call(client, IMAGE, prompt="new")
            await ended(client, CHECK, new["job_id"])
            listed = await call(client, "list_jobs")
    assert [job["job_id"] for job in listed["jobs"]] == [new["job_id"]]


async def test_keeping_jobs_for_a_day_loosens_no_cap_and_no_allowance_of_the_month(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    limits = {
        "DARKROOM_JOBS__KEEP_DAYS": "1",
        "DARKROOM_ZSKY__IMAGES_PER_MONTH": "2",
        "DARKROOM_SPENDING__ZSKY_VIDEOS_PER_MONTH": "1",
    }
    first = rig(clock, tmp_path, environment=limits, store="sqlite")
    async with first.client() as client:
        with anyio.fail_after(DAY):
            for number in range(2):
                job = await call(client, IMAGE, prompt=f"picture {number}")
                await ended(client, CHECK, job["job_id"])
            video = await call(client, "zsky_start_video", prompt="waves")
            await ended(client, CHECK, video["job_id"])
    await anyio.sleep(5 * DAY)
    second = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with second.client() as client:
        await call(client, "zsky_start_image", prompt="tells how late it is")
    limits["DARKROOM_ZSKY__IMAGES_PER_MONTH"] = "3"
    again = rig(clock, tmp_path, environment=limits, store="sqlite", sandbox=first.sandbox)
    async with again.client() as client:
        with anyio.fail_after(DAY):
            await anyio.sleep(1)  # what may be forgotten has been
            assert (await refused(client, IMAGE, prompt="third")).startswith("[quota_exhausted]")
            text = await refused(client, "zsky_start_video", prompt="more waves")
            assert text.startswith("[spend_cap_reached]")


async def test_a_store_that_forgets_at_its_end_says_since_when_it_knows(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        shown = await client.call_tool("get_spending", {"since": "2026-11-01"})
    assert shown.structured_content is not None
    assert shown.structured_content["known_since"] == "2026-11-22T09:00:00Z"
    assert "before 2026-11-22T09:00:00Z is not kept here" in str(shown.content)
