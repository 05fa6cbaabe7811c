"""Servers beside each other: one dies, the journal vanishes, the clock jumps, one is asked to stop."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from darkroom.jobs.model import LOCAL_OWNER
from darkroom_tools.emulators.kit import Fault
from tests.engine.servers import asked_of, servers, wait_until
from tests.engine.support import DAY, HOUR, IMAGE, TRYON, ended, received
from tests.harness import call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom_tools.emulators.sandbox import Sandbox

pytestmark = pytest.mark.anyio


def submitted(sandbox: Sandbox) -> list[Any]:
    return asked_of(sandbox, IMAGE.submit, "zsky")


# --- a neighbour dies ---


async def test_what_waits_at_a_server_that_dies_is_sent_by_its_neighbour_within_a_minute(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as (found, sandbox, _):
        one, _two = found
        emulator = sandbox.emulators["zsky"]
        emulator.faults.add(IMAGE.submit, Fault(kind="status", status=429, retry_after="5"))
        job = await one.call(IMAGE.start, **IMAGE.arguments)
        assert job["status"] == "queued"
        await anyio.sleep(1)
        await one.kill()
        await anyio.sleep(60)
        assert [each.status for each in submitted(sandbox)] == [429, 200]
        assert emulator.charges


async def test_what_waits_at_a_server_that_lives_is_left_to_it(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as (found, sandbox, _):
        one, two = found
        job = await one.call(TRYON.start, **TRYON.arguments)
        await anyio.sleep(120)
        row = await (await two.store()).job(LOCAL_OWNER, str(job["job_id"]))
        assert row is not None
        assert row.holder == (await one.engine.runtime()).context.registry.holder
    assert len(asked_of(sandbox, "submit")) == 1


# --- the journal vanishes ---


@pytest.mark.parametrize("how", ["deleted", "renamed", "replaced", "log"])
async def test_a_journal_that_vanished_under_a_running_server_is_noticed_before_a_request_leaves(
    clock: Callable[[], float], tmp_path: Path, how: str
) -> None:
    async with servers(clock, tmp_path, 1) as (found, sandbox, _):
        (one,) = found
        before = await one.call(IMAGE.start, prompt="before")
        await wait_until(one, IMAGE.check, "completed", job_id=before["job_id"])
        state = tmp_path / "state"
        if how == "log":
            (state / "journal.sqlite-wal").unlink()
        elif how == "replaced":
            (state / "journal.sqlite").rename(tmp_path / "old")
            shutil.copy(tmp_path / "old", state / "journal.sqlite")
        elif how == "renamed":
            state.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(state)
        assert (await one.said(IMAGE.start, prompt="after"))[1] == "journal_unavailable"
        await anyio.sleep(100)
        assert len(submitted(sandbox)) == 1


async def test_a_journal_that_comes_back_is_used_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, 1) as (found, sandbox, _):
        (one,) = found
        emulator = sandbox.emulators["zsky"]
        emulator.faults.add(IMAGE.submit, Fault(kind="status", status=429, retry_after="30"))
        job = await one.call(IMAGE.start, prompt="waits")
        (tmp_path / "state").rename(tmp_path / "elsewhere")
        await anyio.sleep(100)
        assert [each.status for each in submitted(sandbox)] == [429]
        (tmp_path / "elsewhere").rename(tmp_path / "state")
        await wait_until(one, IMAGE.check, "completed", job_id=job["job_id"])
    assert [each.status for each in submitted(sandbox)] == [429, 200]


# --- the clock jumps ---


async def test_a_clock_that_is_ahead_for_one_start_erases_nothing(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = rig(clock, tmp_path, store="sqlite")
    async with first.client() as client:
        with anyio.fail_after(HOUR):
            job = await call(client, IMAGE.start, prompt="kept", idempotency_key="one")
            await ended(client, IMAGE.check, job["job_id"])
    ahead = rig(lambda: clock() + 40 * DAY, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with ahead.client() as client:
        await call(client, "list_jobs")
        await anyio.sleep(10)
    after = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with after.client() as client:
        again = await call(client, IMAGE.start, prompt="kept", idempotency_key="one")
        shown = await call(client, "get_spending")
    assert again["job_id"] == job["job_id"]
    assert [each["spent"] for each in shown["providers"]] == [1]
    assert received(first, IMAGE) == 1


# --- the end of a server ---


@pytest.mark.parametrize(("seconds", "status"), [(None, "running"), ("2", "unknown")])
async def test_a_server_that_stops_waits_for_a_request_as_long_as_it_may_take(
    clock: Callable[[], float], tmp_path: Path, seconds: str | None, status: str
) -> None:
    drain = {"DARKROOM_SERVE__DRAIN_SECONDS": seconds} if seconds is not None else {}
    async with servers(clock, tmp_path, 2, **drain) as (found, sandbox, tasks):
        one, two = found
        sandbox.emulators["zsky"].faults.add(IMAGE.submit, Fault(kind="delay", seconds=20))

        async def start() -> None:
            await one.said(IMAGE.start, **IMAGE.arguments)

        tasks.start_soon(start)
        await anyio.sleep(1)
        await one.stop()
        (job,) = (await two.call("list_jobs"))["jobs"]
    assert job["status"] == status
