"""What we concluded is not what the provider said: such an end stays open, and a check asks again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from tests.engine.batches.support import until_done
from tests.engine.support import HOUR, IMAGE, TRYON, Paid, asked, charged, ended
from tests.harness import call, rig
from tests.tools.test_zyng import build, images, until_ended

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal

pytestmark = pytest.mark.anyio

PAID = pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)
MISSING = Fault(kind="status", status=404)


@PAID
@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_job_that_a_replica_did_not_know_comes_back_when_it_is_checked_later(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, store: Literal["memory", "sqlite"]
) -> None:
    first = rig(clock, tmp_path, store=store)
    first.sandbox.emulators[paid.emulator].faults.add(paid.look, MISSING, times=3)
    async with first.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            lost = await ended(client, paid.check, job["job_id"])
            assert (lost["status"], lost["error"]["code"]) == ("failed", "not_found")
            assert "check it again later" in lost["error"]["next_step"]
            await anyio.sleep(300)
            if store == "memory":
                done = await ended(client, paid.check, job["job_id"])
                assert done["status"] == "completed"
    later = rig(clock, tmp_path, store=store, sandbox=first.sandbox)
    async with later.client() as client:  # one that did not see it end, and where it can know it
        shown = job["job_id"] if store == "sqlite" else lost["provider_job_id"]
        done = await ended(client, paid.check, shown)
    assert done["status"] == "completed"
    assert done["outputs"]
    assert "error" not in done
    assert charged(first, paid.emulator) == 1


@PAID
async def test_a_job_that_goes_on_after_we_had_given_it_up_is_followed_again(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = rig(clock, tmp_path, time_scale=20)
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.look, MISSING, times=3)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, paid.start, **paid.arguments)
            lost = await ended(client, paid.check, job["job_id"])
            assert lost["status"] == "failed"
            done = await ended(client, paid.check, job["job_id"])
            while done["status"] == "failed":
                await anyio.sleep(60)
                done = await ended(client, paid.check, job["job_id"])
    assert done["status"] == "completed"
    assert charged(dependencies, paid.emulator) == 1


async def test_however_often_it_is_checked_the_provider_is_asked_at_a_bounded_rate(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators["zsky"].faults.add(IMAGE.look, MISSING, times=None)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            await ended(client, IMAGE.check, job["job_id"])
            before = len(asked(dependencies, "zsky", IMAGE.look))
            for _ in range(20):
                seen = await call(client, IMAGE.check, job_id=job["job_id"], wait_seconds=0)
                assert seen["status"] == "failed"
            assert len(asked(dependencies, "zsky", IMAGE.look)) == before + 1


async def test_a_failure_that_the_provider_told_is_an_end(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, prompt="fails-in-processing")
            await ended(client, IMAGE.check, job["job_id"])
            before = len(asked(dependencies, "zsky", IMAGE.look))
            await anyio.sleep(600)
            await call(client, IMAGE.check, job_id=job["job_id"], wait_seconds=0)
    assert len(asked(dependencies, "zsky", IMAGE.look)) == before


async def test_what_we_only_concluded_is_not_run_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators["zsky"].faults.add(IMAGE.look, MISSING, times=3)
    item = {"tool": IMAGE.start, "arguments": {"prompt": "a boat"}}
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            batch = await call(client, "start_batch", items=[item])
            await until_done(client, batch["batch_id"])
            again = await call(client, "retry_batch", batch_id=batch["batch_id"])
    assert again["retried"] == 0
    assert charged(dependencies, "zsky") == 1


async def test_an_image_that_comes_after_the_deadline_is_handed_out_by_a_later_check(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    settings = {"DARKROOM_ZYNG__DEADLINE_SECONDS": "120", "DARKROOM_RESULTS__DOWNLOAD": "always"}
    server = build(clock, tmp_path, environment=settings)
    emulator = cast("Any", server.sandbox.emulators["zyng"])
    async with server.client() as client:
        pictures = images(server, "front", "never-completes", "back")
        started = await call(client, "zyng_start_images", workflow="studio", images=pictures)
        partly = await until_ended(client, started["job_id"])
        assert [output["index"] for output in partly["outputs"]] == [0, 2]
        for registration in emulator._registrations.values():  # noqa: SLF001 -- it is late, not lost
            for late in registration.pending:
                late.finishes_at = clock()
        await anyio.sleep(400)
        whole = await call(client, "zyng_check_images", job_id=started["job_id"], wait_seconds=20)
    assert [output["index"] for output in whole["outputs"]] == [0, 1, 2]
    assert all("file" in output for output in whole["outputs"])
    assert "warnings" not in whole
    assert len(emulator.charges) == 3
