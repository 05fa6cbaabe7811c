"""Two servers on one journal, on a virtual clock: what one does the other shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.jobs.store import Query
from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.sandbox import Sandbox
from tests.faults.playing import DRAWN
from tests.faults.process import Process, process
from tests.faults.scenarios import PICTURE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

CHECK = "zsky_check_job"
ALWAYS = {"DARKROOM_RESULTS__DOWNLOAD": "always"}


async def test_a_wait_for_anothers_job_ends_with_its_files(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock, offload=DRAWN)
    sandbox.emulators["zsky"].faults.add("download", Fault(kind="delay", seconds=5))
    one, two = (process(sandbox, tmp_path, clock, ALWAYS) for _ in range(2))
    async with anyio.create_task_group() as tasks:
        one.begin(tasks)
        two.begin(tasks)
        job = await one.call("zsky_start_image", **PICTURE)
        done = await two.call(CHECK, job_id=job["job_id"], wait_seconds=40)
        assert done["status"] == "completed"
        assert done["outputs"][0]["file"]
        await one.stop()
        await two.stop()


async def test_a_check_that_came_too_early_sees_the_files_later(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock, offload=DRAWN)
    sandbox.emulators["zsky"].faults.add("download", Fault(kind="delay", seconds=5))
    one, two = (process(sandbox, tmp_path, clock, ALWAYS) for _ in range(2))
    async with anyio.create_task_group() as tasks:
        one.begin(tasks)
        two.begin(tasks)
        job = await one.call("zsky_start_image", **PICTURE)
        shown = job
        while shown["status"] != "completed":
            await anyio.sleep(0.1)
            shown = await two.call(CHECK, job_id=job["job_id"], wait_seconds=0)
        assert "file" not in shown["outputs"][0]
        await anyio.sleep(10)
        later = await two.call(CHECK, job_id=job["job_id"], wait_seconds=0)
        assert later["outputs"][0]["file"]
        await one.stop()
        await two.stop()


async def test_a_job_whose_downloader_died_is_fetched_by_who_asks(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock, offload=DRAWN)
    sandbox.emulators["zsky"].faults.add("download", Fault(kind="delay", seconds=20))
    one, two = (process(sandbox, tmp_path, clock, ALWAYS) for _ in range(2))
    async with anyio.create_task_group() as tasks:
        one.begin(tasks)
        two.begin(tasks)
        job = await one.call("zsky_start_image", **PICTURE)

        async def kill_while_downloading() -> None:
            await one.call(CHECK, job_id=job["job_id"], wait_seconds=10)
            assert any(r.operation == "download" for r in sandbox.emulators["zsky"].requests)
            await one.kill()

        tasks.start_soon(kill_while_downloading)
        done = await _with_file(two, job["job_id"])
        assert done == "completed"
        await two.stop()


async def _with_file(one: Process, job_id: object) -> object:
    with anyio.fail_after(600):
        while True:
            shown = await one.call(CHECK, job_id=job_id, wait_seconds=40)
            if "file" in shown.get("outputs", [{}])[0]:
                return shown["status"]


async def test_each_job_is_asked_about_by_one_server(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock, offload=DRAWN)
    one, two = (process(sandbox, tmp_path, clock) for _ in range(2))
    async with anyio.create_task_group() as tasks:
        one.begin(tasks)
        two.begin(tasks)
        job = await one.call("zsky_start_video", prompt="p")
        ends: list[object] = []

        async def watch(each: Process) -> None:
            shown: dict[str, object] = {}
            while shown.get("status") != "completed":
                shown = await each.call(CHECK, job_id=job["job_id"], wait_seconds=5)
            ends.append(shown)

        async with anyio.create_task_group() as waits:
            for each in (one, two, one, two):
                waits.start_soon(watch, each)
        (row,) = await (await one.store()).list(Query(owner="local"))
        asked = sum(r.operation == "get_job" for r in sandbox.emulators["zsky"].requests)
        assert asked == row.polls <= 10
        assert len(ends) == 4
        await one.stop()
        await two.stop()


async def test_the_rates_of_a_key_are_kept_across_servers(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock, offload=DRAWN)
    both = [process(sandbox, tmp_path, clock) for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        for each in both:
            each.begin(tasks)
        for number in range(40):
            tasks.start_soon(
                lambda n=number: both[n % 2].said(
                    "zsky_start_image", **{**PICTURE, "prompt": str(n)}
                )
            )
        await anyio.sleep(1_200)
        listed = (await both[0].call("list_jobs", limit=100))["jobs"]
        assert [job["status"] for job in listed] == ["completed"] * 40
        zsky = sandbox.emulators["zsky"]
        assert all(request.status != 429 for request in zsky.requests)
        assert len(zsky.charges) == 40
        for each in both:
            await each.stop()
