"""A server that stops, in every state of a job, and the next one on the same journal."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.jobs.storage.sqlite import SqliteStore
from darkroom_tools.emulators.kit import Fault
from tests.engine.support import (
    HOUR,
    IMAGE,
    TRYON,
    Paid,
    asked,
    charged,
    ended,
    received,
    settle,
    until,
    zsky,
)
from tests.harness import Fields, Rig, call, inline, rig

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.jobs.model import Attempt

pytestmark = pytest.mark.anyio

PAID = pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)


def first(clock: Callable[[], float], tmp_path: Path, **environment: str) -> Rig:
    return rig(clock, tmp_path / "first", store="sqlite", environment=environment)


def after(clock: Callable[[], float], dependencies: Rig) -> Rig:
    """Return the server that is started after ``world`` has ended: same folders, same provider."""
    return rig(clock, dependencies.state.parent, store="sqlite", sandbox=dependencies.sandbox)


async def after_a_kill(clock: Callable[[], float], dependencies: Rig) -> Rig:
    """Return a server on the journal as it is now: what a killed ``world`` would leave behind."""
    folder = dependencies.state.parent.with_name("second")
    await inline(lambda: shutil.copytree(dependencies.state, folder / "state"))
    return rig(clock, folder, store="sqlite", sandbox=dependencies.sandbox)


async def unsettled(dependencies: Rig) -> list[Attempt]:
    """Return the attempts without a job that a dead server left open in a journal."""
    store = await SqliteStore.open(dependencies.state / "journal.sqlite", run=inline)
    try:
        return await store.unsettled(lambda _: True)
    finally:
        await store.close()


@PAID
async def test_a_job_that_was_written_but_not_sent_is_sent_after_a_kill(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = first(clock, tmp_path)
    job: Fields = {}
    # three requests that last hold all of ZSky's slots, a full minute all of Zupertry's turns
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            async with anyio.create_task_group() as tasks:
                if paid is IMAGE:
                    slow = Fault(kind="delay", seconds=20)
                    zsky(dependencies).faults.add("generate_image", slow, times=3)
                    for number in range(3):
                        arguments = {"prompt": f"slow {number}"}
                        tasks.start_soon(client.call_tool, IMAGE.start, arguments)
                    await settle()
                for _ in range(60 if paid is TRYON else 0):
                    await call(client, "zupertry_get_account")
                job = await call(client, paid.start, **paid.arguments)
                tasks.cancel_scope.cancel()
            second = await after_a_kill(clock, dependencies)
        assert job["status"] == "queued"
        before = received(dependencies, paid)
        await anyio.sleep(60)
        async with second.client() as client:
            assert (await ended(client, paid.check, job["job_id"]))["status"] == "completed"
    assert received(dependencies, paid) == before + 1


@PAID
async def test_a_job_that_waits_when_the_server_stops_is_sent_by_the_next_one(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = first(clock, tmp_path)
    emulator = dependencies.sandbox.emulators[paid.emulator]
    emulator.faults.add(paid.submit, Fault(kind="status", status=429, retry_after="30"))
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            job = await call(client, paid.start, **paid.arguments)
            assert job["status"] == "queued"
        await anyio.sleep(60)
        assert received(dependencies, paid) == 0
        async with after(clock, dependencies).client() as client:
            assert (await ended(client, paid.check, job["job_id"]))["status"] == "completed"
    assert received(dependencies, paid) == charged(dependencies, paid.emulator) == 1


@PAID
@pytest.mark.parametrize("kind", ["hang_before", "hang_after", "delay"])
async def test_a_request_under_way_at_a_kill_is_of_unknown_fate_and_not_sent_again(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, kind: str
) -> None:
    dependencies = first(clock, tmp_path)
    fault = Fault(kind=kind, seconds=10)  # pyright: ignore[reportArgumentType] -- one of FaultKind
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.submit, fault)
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            with anyio.move_on_after(5):
                await client.call_tool(paid.start, dict(paid.arguments))
            second = await after_a_kill(clock, dependencies)
        async with second.client() as client:
            (job,) = (await call(client, "list_jobs"))["jobs"]
            assert job["status"] == "unknown"
            assert job["error"]["code"] == "outcome_unknown"
            assert "stopped" in job["evidence"]["what_happened"]
            again = await call(client, paid.start, **paid.arguments)
            assert again["job_id"] == job["job_id"]
            await anyio.sleep(600)
    assert received(dependencies, paid) == 1


@PAID
@pytest.mark.parametrize("seconds", [3, 9])
async def test_a_request_under_way_when_the_server_stops_is_finished_first(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, seconds: float
) -> None:
    dependencies = first(clock, tmp_path)
    emulator = dependencies.sandbox.emulators[paid.emulator]
    emulator.faults.add(paid.submit, Fault(kind="delay", seconds=seconds))
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            with anyio.move_on_after(0.5):
                await client.call_tool(paid.start, dict(paid.arguments))
        async with after(clock, dependencies).client() as client:
            (job,) = (await call(client, "list_jobs"))["jobs"]
            assert job["provider_job_id"]
            assert (await ended(client, paid.check, job["job_id"]))["status"] == "completed"
    assert received(dependencies, paid) == 1


async def test_a_server_that_stops_sends_nothing_that_still_waits(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = first(clock, tmp_path)
    zsky(dependencies).faults.add("generate_image", Fault(kind="delay", seconds=8), times=1)
    zsky(dependencies).faults.add("generate_image", Fault(kind="status", status=400), times=2)
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            with anyio.move_on_after(0.5):
                await client.call_tool(IMAGE.start, {"prompt": "under way"})
            zsky(dependencies).faults.clear()
            for number in range(4):
                await call(client, IMAGE.start, prompt=f"another {number}")
            sent = len(asked(dependencies, "zsky", "generate_image"))
        assert len(asked(dependencies, "zsky", "generate_image")) == sent
        async with after(clock, dependencies).client() as client:
            for job in (await call(client, "list_jobs"))["jobs"]:
                done = await ended(client, IMAGE.check, job["job_id"])
                assert done["status"] == "completed"
    assert received(dependencies, IMAGE) == charged(dependencies, "zsky") == 5


@PAID
async def test_a_request_that_outlasts_the_shutdown_is_of_unknown_fate(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = first(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.submit, Fault(kind="hang_after"))
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            with anyio.move_on_after(0.5):
                await client.call_tool(paid.start, dict(paid.arguments))
            leaving = clock()
        assert clock() - leaving <= 46  # [serve] drain_seconds: as long as a request may take
        async with after(clock, dependencies).client() as client:
            (job,) = (await call(client, "list_jobs"))["jobs"]
    assert job["status"] == "unknown"
    assert received(dependencies, paid) == 1


@PAID
@pytest.mark.parametrize("away", [1, 300])
async def test_a_running_job_is_asked_about_again_however_long_the_server_was_away(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, away: float
) -> None:
    dependencies = first(clock, tmp_path)
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            job = await call(client, paid.start, **paid.arguments)
        await anyio.sleep(away)
        async with after(clock, dependencies).client() as client:
            done = await ended(client, paid.check, job["job_id"])
    assert done["status"] == "completed"
    assert Path(done["outputs"][0]["file"]).is_file()  # noqa: ASYNC240 -- virtual time
    assert received(dependencies, paid) == charged(dependencies, paid.emulator) == 1


@PAID
async def test_an_unknown_job_stays_unknown_after_a_restart(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = first(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add(paid.submit, Fault(kind="drop_after"))
    with anyio.fail_after(3 * HOUR):
        async with dependencies.client() as client:
            job = await call(client, paid.start, **paid.arguments)
            assert job["status"] == "unknown"
        await anyio.sleep(HOUR)
        async with after(clock, dependencies).client() as client:
            (listed,) = (await call(client, "list_jobs"))["jobs"]
            assert (listed["job_id"], listed["status"]) == (job["job_id"], "unknown")
            assert listed["evidence"] == job["evidence"]
            again = await call(client, paid.start, **paid.arguments)
            assert again["job_id"] == job["job_id"]
            same = await call(client, paid.start, **paid.arguments, idempotency_key="again")
            assert same["job_id"] == job["job_id"]
            assert "not sent again" in " ".join(same["warnings"])
    assert received(dependencies, paid) == 1


@PAID
async def test_a_result_that_was_not_downloaded_is_fetched_at_the_next_check(
    clock: Callable[[], float], tmp_path: Path, paid: Paid
) -> None:
    dependencies = first(clock, tmp_path)
    dependencies.sandbox.emulators[paid.emulator].faults.add(
        "download", Fault(kind="delay", seconds=8)
    )
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            job = await call(client, paid.start, **paid.arguments)
            await until(lambda: asked(dependencies, paid.emulator, "download"))
            second = await after_a_kill(clock, dependencies)
        async with second.client() as client:
            (listed,) = (await call(client, "list_jobs"))["jobs"]
            assert listed["status"] == "completed"
            assert "file" not in listed["outputs"][0]
            done = await call(client, paid.check, job_id=job["job_id"])
    assert Path(done["outputs"][0]["file"]).is_file()  # noqa: ASYNC240 -- virtual time
    assert "warnings" not in done


async def test_a_deletion_under_way_at_a_kill_is_kept_as_unknown(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = first(clock, tmp_path, DARKROOM_APPROVAL__NEVER_ASK='["zsky_delete_result"]')
    zsky(dependencies).faults.add("delete_job", Fault(kind="hang_after"))
    with anyio.fail_after(HOUR):
        async with dependencies.client() as client:
            job = await call(client, IMAGE.start, **IMAGE.arguments)
            await ended(client, IMAGE.check, job["job_id"])
            with anyio.move_on_after(5):
                await client.call_tool("zsky_delete_result", {"job_id": job["job_id"]})
            second = await after_a_kill(clock, dependencies)
        assert [attempt.state for attempt in await unsettled(second)] == ["sent"]
        async with second.client() as client:
            done = await call(client, IMAGE.check, job_id=job["job_id"])
            assert done["status"] == "completed"
        assert await unsettled(second) == []
    assert len(asked(dependencies, "zsky", "delete_job")) == 1
