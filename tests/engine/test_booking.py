"""A payment is booked on the day of its sending, once, and in the write that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import anyio
import pytest

from darkroom.core.errors import JournalError
from darkroom_tools.emulators.kit import Fault
from tests.engine.batches.support import until_done
from tests.engine.servers import servers, yields_at_every_access
from tests.engine.stores import TroubledStore
from tests.engine.support import DAY, HOUR, IMAGE, charged, ended, received
from tests.harness import call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from darkroom.jobs.spending import Cap, Entry
    from tests.harness import Fields

pytestmark = pytest.mark.anyio

STORES = pytest.mark.parametrize("store", ["memory", "sqlite"])
TO_HALF_PAST_ELEVEN = 14.5 * HOUR
"""The clock of a test begins at nine."""

ONE_A_DAY = {"DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "1"}


def spent(shown: Fields) -> float:
    return sum(each["spent"] for each in shown["providers"])


@STORES
async def test_a_start_that_waited_over_midnight_takes_from_the_cap_of_the_day_it_is_sent_on(
    clock: Callable[[], float], tmp_path: Path, store: Literal["memory", "sqlite"]
) -> None:
    dependencies = rig(clock, tmp_path, environment=ONE_A_DAY, store=store)
    emulator = dependencies.sandbox.emulators["zsky"]
    emulator.faults.add(IMAGE.submit, Fault(kind="status", status=429, retry_after="3600"))
    async with dependencies.client() as client:
        with anyio.fail_after(4 * DAY):
            await anyio.sleep(TO_HALF_PAST_ELEVEN)
            job = await call(client, IMAGE.start, prompt="over midnight")
            assert job["status"] == "queued"
            await anyio.sleep(2 * HOUR)
            assert (await ended(client, IMAGE.check, job["job_id"]))["status"] == "completed"
            today = (await call(client, "get_spending"))["providers"]
            assert [each["spent"] for each in today] == [1]
            text = await refused(client, IMAGE.start, prompt="one more")
    assert text.startswith("[spend_cap_reached]")
    assert received(dependencies, IMAGE) == 1


@STORES
async def test_a_start_that_waited_waits_on_where_its_day_has_no_room_any_more(
    clock: Callable[[], float], tmp_path: Path, store: Literal["memory", "sqlite"]
) -> None:
    dependencies = rig(clock, tmp_path, environment=ONE_A_DAY, store=store)
    emulator = dependencies.sandbox.emulators["zsky"]
    emulator.faults.add(IMAGE.submit, Fault(kind="status", status=429, retry_after="3600"))
    async with dependencies.client() as client:
        with anyio.fail_after(4 * DAY):
            await anyio.sleep(TO_HALF_PAST_ELEVEN)
            waiting = await call(client, IMAGE.start, prompt="over midnight")
            await anyio.sleep(0.75 * HOUR)
            other = await call(client, IMAGE.start, prompt="of the next day")
            done = [(await ended(client, IMAGE.check, other["job_id"], hours=60))["status"]]
            seen = await call(client, IMAGE.check, job_id=waiting["job_id"], wait_seconds=0)
            assert (seen["status"], seen["queued_for"]) == ("queued", "allowance")
            assert "zsky_images_per_day" in seen["warnings"][0]
            assert charged(dependencies, "zsky") == 1
            await anyio.sleep(DAY)
            done.append((await ended(client, IMAGE.check, waiting["job_id"]))["status"])
    assert done == ["completed", "completed"]
    assert charged(dependencies, "zsky") == 2


@STORES
async def test_a_retry_takes_from_the_cap_of_the_day_of_the_retry(
    clock: Callable[[], float], tmp_path: Path, store: Literal["memory", "sqlite"]
) -> None:
    dependencies = rig(clock, tmp_path, environment=ONE_A_DAY, store=store)
    item = {"tool": IMAGE.start, "arguments": {"prompt": "fails-in-processing, twice"}}
    async with dependencies.client() as client:
        with anyio.fail_after(4 * DAY):
            batch = await call(client, "start_batch", items=[item])
            await until_done(client, batch["batch_id"])
            await anyio.sleep(DAY)
            again = await call(client, "retry_batch", batch_id=batch["batch_id"])
            assert again["retried"] == 1
            await until_done(client, batch["batch_id"])
            text = await refused(client, IMAGE.start, prompt="one more")
            both = await call(client, "get_spending", since="2026-11-22")
    assert text.startswith("[spend_cap_reached]")
    assert spent(both) == charged(dependencies, "zsky") == 2


class _OnlyTogether(TroubledStore):
    """Dies where an entry is written by itself."""

    async def reserve(self, entry: Entry, caps: Sequence[Cap]) -> None:
        del entry, caps
        raise JournalError("killed")


async def test_a_new_run_and_what_the_old_one_cost_are_one_write(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, open_store=_OnlyTogether().opened)
    item = {"tool": IMAGE.start, "arguments": {"prompt": "fails-in-processing, twice"}}
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            batch = await call(client, "start_batch", items=[item])
            await until_done(client, batch["batch_id"])
            await call(client, "retry_batch", batch_id=batch["batch_id"])
            await until_done(client, batch["batch_id"])
            assert spent(await call(client, "get_spending")) == 2
    assert charged(dependencies, "zsky") == 2


@pytest.mark.parametrize("allowance", [1, 3])
async def test_a_months_allowance_is_not_passed_by_many_servers_at_once(
    clock: Callable[[], float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowance: int,
) -> None:
    yields_at_every_access(monkeypatch)
    limits = {"DARKROOM_ZSKY__IMAGES_PER_MONTH": str(allowance)}
    said: list[str] = []
    async with servers(clock, tmp_path, 6, **limits) as (found, sandbox, tasks):

        async def start(number: int) -> None:
            _, code = await found[number].said(IMAGE.start, prompt=f"picture {number}")
            said.append(code)

        for number in range(6):
            tasks.start_soon(start, number)
        await anyio.sleep(600)
        assert len(said) == 6
        assert sum(charge.amount for charge in sandbox.emulators["zsky"].charges) == allowance
        jobs = (await found[0].call("list_jobs"))["jobs"]
    assert sum(job["status"] != "failed" for job in jobs) == allowance
