"""ZSky's daily soft cap, counted from our journal: what is beyond it waits for the next UTC day."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from tests.engine.support import DAY, HOUR, IMAGE, VIDEO, Paid, asked, ended, received, zsky
from tests.harness import call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal

    from mcp import Client

pytestmark = pytest.mark.anyio

CAPS = {
    "DARKROOM_ZSKY__IMAGES_PER_DAY": "3",
    "DARKROOM_ZSKY__VIDEOS_PER_DAY": "1",
}


async def use_up(client: Client, paid: Paid, number: int) -> None:
    for serial in range(number):
        job = await call(client, paid.start, prompt=f"picture {serial}")
        await ended(client, paid.check, job["job_id"])


@pytest.mark.parametrize(("paid", "cap"), [(IMAGE, 3), (VIDEO, 1)], ids=str)
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_job_beyond_the_days_cap_goes_out_at_midnight(
    clock: Callable[[], float],
    tmp_path: Path,
    paid: Paid,
    cap: int,
    store: Literal["memory", "sqlite"],
) -> None:
    dependencies = rig(clock, tmp_path, environment=CAPS, store=store)
    midnight = clock() // DAY * DAY + DAY
    async with dependencies.client() as client:
        with anyio.fail_after(2 * DAY):
            await use_up(client, paid, cap)
            waiting = await call(client, paid.start, prompt="one too many")
            assert waiting["status"] == "queued"
            assert waiting["queued_for"] == "allowance"
            assert waiting["starts_at"] == "2026-11-23T00:00:00Z"
            assert waiting["poll_after_seconds"] == pytest.approx(midnight - clock(), abs=1)
            seen = await call(client, paid.check, job_id=waiting["job_id"], wait_seconds=40)
            assert seen["queued_for"] == "allowance"
            await anyio.sleep(midnight - clock() - 1)
            assert received(dependencies, paid) == cap
            await anyio.sleep(2)
            assert received(dependencies, paid) == cap + 1
            done = await ended(client, paid.check, waiting["job_id"])
            assert done["status"] == "completed"
    assert asked(dependencies, "zsky", paid.submit)[-1].at == pytest.approx(midnight, abs=1)


async def test_jobs_that_wait_for_the_next_day_hold_no_slot_and_no_other_kind(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment=CAPS)
    async with dependencies.client() as client:
        with anyio.fail_after(3 * DAY):
            await use_up(client, IMAGE, 3)
            waiting = [
                await call(client, IMAGE.start, prompt=f"tomorrow {number}") for number in range(5)
            ]
            assert {job["queued_for"] for job in waiting} == {"allowance"}
            video = await call(client, VIDEO.start, **VIDEO.arguments)
            assert video["status"] == "running"
            await anyio.sleep(DAY)
            states = [
                (await call(client, IMAGE.check, job_id=job["job_id"], wait_seconds=0))["status"]
                for job in waiting
            ]
            assert sorted(states) == ["completed"] * 3 + ["queued"] * 2
            await anyio.sleep(DAY)
            for job in waiting:
                done = await call(client, IMAGE.check, job_id=job["job_id"])
                assert done["status"] == "completed"
    assert received(dependencies, IMAGE) == 8


async def test_what_was_refused_does_not_count_and_what_is_unknown_does(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment=CAPS)
    faults = dependencies.sandbox.emulators["zsky"].faults
    async with dependencies.client() as client:
        with anyio.fail_after(DAY):
            for number in range(4):
                faults.add("generate_image", Fault(kind="status", status=400))
                await refused(client, IMAGE.start, prompt=f"refused {number}")
            for number in range(3):
                faults.add("generate_image", Fault(kind="drop_after"))
                job = await call(client, IMAGE.start, prompt=f"lost {number}")
                assert job["status"] == "unknown"
            await anyio.sleep(HOUR)
            waiting = await call(client, IMAGE.start, prompt="one too many")
            assert waiting["queued_for"] == "allowance"


async def test_many_starts_at_once_do_not_overshoot_the_cap(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment=CAPS)
    async with dependencies.client() as client:
        with anyio.fail_after(DAY), anyio.move_on_after(HOUR):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(client.call_tool, IMAGE.start, {"prompt": f"n {number}"})
            await anyio.sleep(DAY)
    assert received(dependencies, IMAGE) == 3


async def test_a_job_that_waits_for_the_next_day_still_does_after_a_restart(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment=CAPS, store="sqlite")
    with anyio.fail_after(2 * DAY):
        async with dependencies.client() as client:
            await use_up(client, IMAGE, 3)
            waiting = await call(client, IMAGE.start, prompt="one too many")
        again = rig(clock, tmp_path, environment=CAPS, store="sqlite", sandbox=dependencies.sandbox)
        async with again.client() as client:
            seen = await call(client, IMAGE.check, job_id=waiting["job_id"], wait_seconds=5)
            assert seen["queued_for"] == "allowance"
            assert seen["starts_at"] == "2026-11-23T00:00:00Z"
            await anyio.sleep(DAY)
            done = await call(client, IMAGE.check, job_id=waiting["job_id"])
            assert done["status"] == "completed"
    assert received(dependencies, IMAGE) == 4


async def test_beyond_the_month_an_image_is_refused_unless_overage_is_allowed(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    month = {"DARKROOM_ZSKY__IMAGES_PER_MONTH": "2"}
    dependencies = rig(clock, tmp_path, environment=month)
    async with dependencies.client() as client:
        for number in range(2):
            await call(client, "zsky_start_image", prompt=f"Within the allowance {number}")
        text = await refused(client, "zsky_start_image", prompt="Beyond it")
        assert text.startswith("[quota_exhausted]")
        await anyio.sleep(10 * 86_400)  # the next month has begun
        await call(client, "zsky_start_image", prompt="Within the next one")
    assert len(dependencies.sandbox.emulators["zsky"].charges) == 3
    allowed = rig(clock, tmp_path, environment={**month, "DARKROOM_ZSKY__ALLOW_OVERAGE": "true"})
    async with allowed.client() as client:
        for number in range(3):
            await call(client, "zsky_start_image", prompt=f"Paid beyond it {number}")


# --- what others use of the same account ---


@pytest.mark.parametrize("used", [1_000, 999])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_start_beyond_what_others_have_used_is_refused_before_it_is_charged(
    clock: Callable[[], float], tmp_path: Path, used: int, store: str
) -> None:
    account = {"zsky": {"used_elsewhere": {"image": used}, "overage": True, "soft_cap": False}}
    server = rig(clock, tmp_path, store=store, switches=account)  # pyright: ignore[reportArgumentType] -- one of the two
    async with server.client() as client:
        for number in range(1_000 - used):
            job = await call(client, IMAGE.start, prompt=f"the last {number}")
            assert job["status"] == "running"
        text = await refused(client, IMAGE.start, prompt="one too many")
        assert text.startswith("[quota_exhausted]")
        assert "others with this key" in text
        again = await refused(client, IMAGE.start, prompt="and another")
        assert again.startswith("[quota_exhausted]")
        usage = await call(client, "zsky_get_usage")
    assert (usage["images_used"], usage["overage_charged_cents"]) == (1_000, 0)
    assert received(server, IMAGE) == 1_000 - used


async def test_the_counters_are_read_before_the_first_start_and_then_every_few_minutes(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        for number in range(30):
            await call(client, IMAGE.start, prompt=f"kite {number}")
            await anyio.sleep(30)
    assert 3 <= len(asked(server, "zsky", "usage")) <= 5, "in a quarter of an hour"
    first = next(r.operation for r in zsky(server).requests)
    assert first == "usage"


@pytest.mark.parametrize("kind", ["status", "hang_before", "malformed"])
async def test_counters_that_cannot_be_read_hold_up_no_start(
    clock: Callable[[], float], tmp_path: Path, kind: str
) -> None:
    server = rig(clock, tmp_path)
    trouble = Fault(kind=kind)  # pyright: ignore[reportArgumentType] -- one of FaultKind
    zsky(server).faults.add("usage", trouble, times=None)
    async with server.client() as client:
        with anyio.fail_after(30):
            job = await call(client, IMAGE.start, prompt="kite")
        assert job["status"] == "running"


async def test_with_overage_allowed_nothing_is_asked_and_nothing_refused(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    account = {"zsky": {"used_elsewhere": {"image": 1_000}, "overage": True, "soft_cap": False}}
    server = rig(
        clock, tmp_path, switches=account, environment={"DARKROOM_ZSKY__ALLOW_OVERAGE": "true"}
    )
    async with server.client() as client:
        assert (await call(client, IMAGE.start, prompt="kite"))["status"] == "running"
    assert asked(server, "zsky", "usage") == []
