"""Pacing through the whole server: what the providers see of many starts at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from mcp_types import CallToolResult

from darkroom_tools.emulators.kit import Fault
from tests.engine.support import (
    HOUR,
    IMAGE,
    SAMPLES,
    TRYON,
    asked,
    charged,
    ended,
    most_in_a_window,
    received,
    side_by_side,
    zsky,
)
from tests.harness import call, rig, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness import Rig

pytestmark = pytest.mark.anyio

NO_DOWNLOADS = {"DARKROOM_RESULTS__DOWNLOAD": "never"}


def no_429(dependencies: Rig, emulator: str) -> None:
    assert 429 not in {request.status for request in asked(dependencies, emulator)}


def most_at_once(dependencies: Rig) -> int:
    """Return the most ZSky jobs that ran at the same time."""
    (account, *_) = zsky(dependencies).keys.values()
    spans = [(c.at, account.jobs[c.job_id].finishes_at) for c in zsky(dependencies).charges]
    return max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)


async def test_thirty_images_keep_to_three_at_once_and_twenty_requests_a_minute(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment=NO_DOWNLOADS)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            jobs = await side_by_side(
                client, IMAGE.start, [{"prompt": f"picture {n}"} for n in range(30)]
            )
            assert {job["status"] for job in jobs} <= {"running", "queued"}
            for job in jobs:
                if job["status"] == "queued":
                    assert job["queued_for"] in {"slot", "pacing"}
                    assert job["poll_after_seconds"] >= 1
            for job in jobs:
                done = await ended(client, IMAGE.check, job["job_id"])
                assert done["status"] == "completed"
    assert most_at_once(dependencies) == 3
    assert most_in_a_window(zsky(dependencies)) <= 20
    no_429(dependencies, "zsky")
    assert received(dependencies, IMAGE) == charged(dependencies, "zsky") == 30


async def test_a_hundred_tryons_keep_to_sixty_requests_a_minute(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment=NO_DOWNLOADS)
    calls = [
        {
            "model_image_url": f"{SAMPLES}/model-{n % 12 + 1}.jpg",
            "garment_image_url": f"{SAMPLES}/garment-{n // 12 + 1}.jpg",
        }
        for n in range(100)
    ]
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            jobs = await side_by_side(client, TRYON.start, calls)
            for job in jobs:
                done = await ended(client, TRYON.check, job["job_id"])
                assert done["status"] == "completed"
    assert most_in_a_window(dependencies.sandbox.emulators["zupertry"]) <= 60
    no_429(dependencies, "zupertry")
    assert received(dependencies, TRYON) == charged(dependencies, "zupertry") == 100


async def test_a_window_holds_no_more_when_every_answer_is_slow(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    slow = Fault(kind="delay", seconds=9)
    zsky(dependencies).faults.add("generate_image", slow, times=None)
    zsky(dependencies).faults.add("get_job", slow, times=None)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            jobs = await side_by_side(
                client, IMAGE.start, [{"prompt": f"picture {n}"} for n in range(12)]
            )
            for job in jobs:
                done = await ended(client, IMAGE.check, job["job_id"])
                assert done["status"] == "completed"
    assert most_in_a_window(zsky(dependencies)) <= 20
    no_429(dependencies, "zsky")


async def test_calls_of_a_chat_share_the_rate_with_starts_and_polls(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            jobs = await side_by_side(
                client, IMAGE.start, [{"prompt": f"picture {n}"} for n in range(6)]
            )
            told: list[bool] = []
            for _ in range(40):
                began = clock()
                result = await client.call_tool("zsky_get_usage", {})
                assert isinstance(result, CallToolResult)
                assert clock() - began < 45
                told.append(not result.is_error)
                if result.is_error:
                    assert text_of(result).startswith("[rate_limited] ")
                    assert "trying again helps after" in text_of(result)
            assert told.count(False) < 5
            for job in jobs:
                done = await ended(client, IMAGE.check, job["job_id"])
                assert done["status"] == "completed"
    assert most_in_a_window(zsky(dependencies)) <= 20
    no_429(dependencies, "zsky")


async def test_a_job_of_unknown_fate_keeps_its_slot_for_as_long_as_it_could_run(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    for _ in range(3):
        zsky(dependencies).faults.add("generate_image", Fault(kind="drop_after"))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            for number in range(3):
                job = await call(client, IMAGE.start, prompt=f"picture {number}")
                assert job["status"] == "unknown"
            waiting = await call(client, IMAGE.start, prompt="the fourth")
            assert (waiting["status"], waiting["queued_for"]) == ("queued", "slot")
            await anyio.sleep(590)
            assert received(dependencies, IMAGE) == 3
            done = await ended(client, IMAGE.check, waiting["job_id"])
            assert done["status"] == "completed"


@pytest.mark.parametrize("fault", [Fault(kind="status", status=451), Fault(kind="status")])
async def test_a_job_that_ends_any_way_frees_its_slot(
    clock: Callable[[], float], tmp_path: Path, fault: Fault
) -> None:
    dependencies = rig(clock, tmp_path)
    prompts = ["blocked-output", "fails-in-processing", "a lighthouse"]
    if fault.status == 451:
        zsky(dependencies).faults.add("generate_image", fault, times=3)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            if fault.status == 451:
                for number in range(3):
                    await client.call_tool(IMAGE.start, {"prompt": f"refused {number}"})
            else:
                for prompt in prompts:
                    job = await call(client, IMAGE.start, prompt=prompt)
                    await ended(client, IMAGE.check, job["job_id"])
            for number in range(3):
                job = await call(client, IMAGE.start, prompt=f"picture {number}")
                assert job["status"] == "running"


async def test_a_refused_burst_lets_every_start_through_once_in_the_end(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    limited = Fault(kind="status", status=429, retry_after="5")
    zsky(dependencies).faults.add("generate_image", limited, times=4)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            jobs = await side_by_side(
                client, IMAGE.start, [{"prompt": f"picture {n}"} for n in range(8)]
            )
            for job in jobs:
                done = await ended(client, IMAGE.check, job["job_id"])
                assert done["status"] == "completed"
    assert received(dependencies, IMAGE) == charged(dependencies, "zsky") == 8
    assert most_in_a_window(zsky(dependencies)) <= 20
