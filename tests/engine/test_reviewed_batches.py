"""What a review found in batches and jobs of many requests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.jobs.model import LOCAL_OWNER
from darkroom_tools.emulators.kit import Fault
from tests.engine.servers import (
    DETAILS,
    asked_of,
    image,
    servers,
    wait_until,
    yields_at_every_access,
)
from tests.engine.stores import TroubledStore
from tests.engine.support import DAY, HOUR, SAMPLES, TRYON, asked, until
from tests.faults.process import process
from tests.harness import call, rig
from tests.jobs.rows import a_job, an_attempt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.anyio


async def test_a_batch_that_is_retried_twice_at_once_is_run_once(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retried: list[int] = []
    async with servers(clock, tmp_path, 1) as ((one,), sandbox, _):
        zsky = sandbox.emulators["zsky"]
        zsky.faults.add("generate_image", Fault(kind="refuse"), times=6)
        prompts = ["a", "b"]
        batch = await one.call("start_batch", tool="zsky_start_image", for_each={"prompt": prompts})
        await wait_until(one, "check_batch", "completed", batch_id=batch["batch_id"])
        yields_at_every_access(monkeypatch)

        async def retry() -> None:
            retried.append((await one.call("retry_batch", batch_id=batch["batch_id"]))["retried"])

        async with anyio.create_task_group() as calls:
            calls.start_soon(retry)
            calls.start_soon(retry)
        store = await one.store()
        for job in (await one.call("list_jobs", provider="zsky"))["jobs"]:
            open_ones = [
                a for a in await store.attempts(LOCAL_OWNER, job["job_id"]) if a.state == "prepared"
            ]
            assert len(open_ones) <= 1
    assert sum(retried) == 2


async def test_a_fan_out_that_was_cancelled_while_it_waited_stays_cancelled(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, 1) as ((one,), sandbox, _):
        rid = (await one.call("zyng_register_request", **DETAILS))["rid"]
        for number in range(9):  # the rest of this minute's turns
            await one.call("zyng_register_request", **DETAILS) if number < 9 else None
        batch = await one.call(
            "start_batch",
            items=[{"tool": "zyng_start_images", "arguments": {"rid": rid, "images": [image(1)]}}],
        )
        stopped = await one.call("cancel_batch", batch_id=batch["batch_id"])
        assert stopped["counts"] == {"cancelled": 1}
        await anyio.sleep(HOUR)
        report = await one.call("check_batch", batch_id=batch["batch_id"], wait_seconds=0)
        assert report["counts"] == {"cancelled": 1}
        assert not asked_of(sandbox, "process_image", "zyng")
        spent = await one.call("get_spending")
        assert [e["spent"] for e in spent["providers"] if e["provider"] == "zyng"] in ([], [0])


async def test_a_second_stage_under_a_cap_that_was_lowered_does_not_keep_the_server_from_starting(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    name = "DARKROOM_SPENDING__ZUPERTRY_CREDITS_PER_DAY"
    async with servers(clock, tmp_path, 1, **{name: "2"}) as ((one,), sandbox, tasks):
        batch = await one.call(
            "start_batch",
            items=[
                {
                    "tool": "zyng_start_images",
                    "arguments": {**DETAILS, "images": [image(1), image(2)]},
                }
            ],
            then={
                "tool": TRYON.start,
                "arguments": {"model_image_url": TRYON.arguments["model_image_url"]},
                "input": "garment_image_url",
            },
        )
        (first,) = (await one.call("list_jobs", provider="zyng"))["jobs"]
        await wait_until(
            one, "zyng_check_images", "completed", job_id=first["job_id"], wait_seconds=0
        )
        await one.kill()
        again = process(sandbox, tmp_path, clock, {name: "1"}, seed=9)
        again.begin(tasks)
        report = await wait_until(again, "check_batch", "completed", batch_id=batch["batch_id"])
        assert report["counts"] == {"completed": 3}  # what was approved with the batch
        await again.stop()


async def test_cancelling_a_large_batch_answers_in_time_and_goes_on(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, 1) as ((one,), sandbox, _):
        zupertry = sandbox.emulators["zupertry"]
        zupertry.faults.add("submit", Fault(kind="never_finish"), times=None)
        zupertry.faults.add("cancel", Fault(kind="delay", seconds=5), times=None)
        batch = await one.call(
            "start_batch",
            tool=TRYON.start,
            arguments=dict(TRYON.arguments),
            for_each={"workspace_id": ["ws_main"] * 1},
            copies=16,
        )
        await until(lambda: len(asked_of(sandbox, "submit")) == 16)
        await anyio.sleep(5)
        with anyio.fail_after(45):
            await one.call("cancel_batch", batch_id=batch["batch_id"])
        await anyio.sleep(10 * 60)
        assert len(asked_of(sandbox, "cancel")) == 16


async def test_a_batch_with_a_key_is_the_same_batch_after_the_window_too(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, 1) as ((one,), _, _tasks):
        rid = (await one.call("zyng_register_request", **DETAILS))["rid"]
        item = {"tool": "zyng_start_images", "arguments": {"rid": rid, "images": [image(1)]}}
        arguments: dict[str, object] = {"items": [item], "idempotency_key": "k"}
        batch = await one.call("start_batch", **arguments)
        await wait_until(one, "check_batch", "completed", batch_id=batch["batch_id"])
        await anyio.sleep(HOUR)
        assert (await one.call("start_batch", **arguments))["batch_id"] == batch["batch_id"]


async def test_inputs_whose_addresses_died_do_not_hold_each_others_turns(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, 1) as ((one,), _, _tasks):
        source = await one.call(TRYON.start, **TRYON.arguments)
        await wait_until(one, TRYON.check, "completed", job_id=source["job_id"])
        await anyio.sleep(DAY)
        batch = await one.call(
            "start_batch",
            tool=TRYON.start,
            arguments={"model_image_url": f"job:{source['job_id']}"},
            for_each={"garment_image_url": [f"{SAMPLES}/garment-{n}.jpg" for n in range(1, 5)]},
            copies=16,
        )
        report = await wait_until(one, "check_batch", "completed", batch_id=batch["batch_id"])
    assert report["counts"] == {"completed": 64}


# --- what a provider says ---


async def test_planning_a_batch_with_a_slow_policy_answers_in_time_and_starts_nothing(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, 1, DARKROOM_GUARD__PROVIDER="znyx") as ((one,), sandbox, _):
        sandbox.emulators["znyx"].faults.add("*", Fault(kind="delay", seconds=5), times=None)
        prompts = [f"harbour {n}" for n in range(200)]
        with anyio.fail_after(45):
            _, code = await one.said(
                "start_batch", tool="zsky_start_image", for_each={"prompt": prompts}
            )
        assert code == "timeout"
        assert (await one.call("list_jobs"))["jobs"] == []


async def test_items_that_cannot_be_sent_any_more_end_their_job(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    journal = TroubledStore()
    row = a_job(
        "zyng_old", provider="zyng", operation="zyng_start_images", status="running",
        provider_job_id="rid-1", arguments={"images": "of yesteryear"}, submitted_at=clock(),
    )  # fmt: skip
    items = [an_attempt(f"a{n}", job_id=row.job_id, item=f"i{n}") for n in (1, 2)]
    await journal.create(row, items, identical_since=None)
    dependencies = rig(clock, tmp_path, open_store=journal.opened)
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            while True:
                job = await call(client, "zyng_check_images", job_id=row.job_id)
                if job["status"] == "failed":
                    break
    assert not asked(dependencies, "zyng", "process_image")
