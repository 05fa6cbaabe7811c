"""A host that gives up in the middle of a call: the job goes on, and its attempt is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from tests.engine.stores import TroubledStore
from tests.engine.support import (
    HOUR,
    IMAGE,
    TRYON,
    Paid,
    asked,
    charged,
    ended,
    received,
    zsky,
    zupertry,
)
from tests.harness import ERAS, Era, call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

# with a journal that takes 1 s for a write and a provider that takes 3 s to answer
INSTANTS = {
    0.5: "while the row is written",
    1.5: "while it is written that the request leaves",
    3.0: "while the request is under way",
    5.5: "while the answer is written down",
    6.0: "as the call returns",
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)
@pytest.mark.parametrize("instant", INSTANTS, ids=lambda at: INSTANTS[at].replace(" ", "-"))
async def test_a_cancelled_start_goes_on_and_is_paid_once(
    clock: Callable[[], float], tmp_path: Path, era: Era, paid: Paid, instant: float
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    dependencies.sandbox.emulators[paid.emulator].faults.add(
        paid.submit, Fault(kind="delay", seconds=3)
    )
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            store.slow = 1.0
            with anyio.move_on_after(instant):
                await client.call_tool(paid.start, dict(paid.arguments))
            await anyio.sleep(10 - instant)
            store.slow = 0.0
            (listed,) = (await call(client, "list_jobs"))["jobs"]
            job = await ended(client, paid.check, listed["job_id"])
        assert job["status"] == "completed"
    assert received(dependencies, paid) == charged(dependencies, paid.emulator) == 1
    assert store.writes[:3] == [
        ("queued", "prepared"),
        ("submitting", "sent"),
        ("running", "accepted"),
    ]


@pytest.mark.parametrize("era", ERAS)
async def test_a_call_that_is_cancelled_before_it_is_sent_starts_nothing_or_one_recorded_job(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            with anyio.move_on_after(0):
                await client.call_tool(IMAGE.start, dict(IMAGE.arguments))
            await anyio.sleep(60)
            listed = (await call(client, "list_jobs"))["jobs"]
    assert len(listed) == received(dependencies, IMAGE)


@pytest.mark.parametrize("era", ERAS)
async def test_the_same_call_after_a_cancelled_one_gets_its_job_and_pays_nothing_more(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).faults.add("generate_image", Fault(kind="delay", seconds=20))
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            with anyio.move_on_after(5):
                await client.call_tool(IMAGE.start, dict(IMAGE.arguments))
            again = await call(client, IMAGE.start, **IMAGE.arguments)
            assert again["status"] == "running"
            assert any("nothing new was started" in text for text in again["warnings"])
            assert (await ended(client, IMAGE.check, again["job_id"]))["status"] == "completed"
    assert received(dependencies, IMAGE) == 1


async def test_a_cancelled_start_whose_answer_never_comes_becomes_unknown(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    zsky(dependencies).faults.add("generate_image", Fault(kind="hang_after"))
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            with anyio.move_on_after(3):
                await client.call_tool(IMAGE.start, dict(IMAGE.arguments))
            await anyio.sleep(60)
            (job,) = (await call(client, "list_jobs"))["jobs"]
    assert job["status"] == "unknown"
    assert received(dependencies, IMAGE) == 1


async def test_a_cancelled_start_that_waits_for_a_slot_is_sent_when_its_turn_comes(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            for number in range(3):
                await call(client, IMAGE.start, prompt=f"picture {number}")
            with anyio.move_on_after(0.001):
                await client.call_tool(IMAGE.start, {"prompt": "the fourth"})
            await anyio.sleep(120)
            jobs = (await call(client, "list_jobs"))["jobs"]
    assert [job["status"] for job in jobs] == ["completed"] * len(jobs)
    assert received(dependencies, IMAGE) == len(jobs)


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_check_leaves_the_job_and_later_checks_alone(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)
            for _ in range(5):
                with anyio.move_on_after(0.2):
                    await client.call_tool(TRYON.check, {"job_id": job["job_id"]})
            assert (await ended(client, TRYON.check, job["job_id"]))["status"] == "completed"


@pytest.mark.parametrize("era", ERAS)
async def test_a_cancelled_cancellation_is_sent_once_and_recorded(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    zupertry(dependencies).faults.add("cancel", Fault(kind="delay", seconds=3))
    async with dependencies.client(era) as client:
        with anyio.fail_after(HOUR):
            job = await call(client, TRYON.start, **TRYON.arguments)
            with anyio.move_on_after(1):
                await client.call_tool("zupertry_cancel_tryon", {"job_id": job["job_id"]})
            await anyio.sleep(10)
            (listed,) = (await call(client, "list_jobs"))["jobs"]
    assert listed["status"] == "cancelled"
    assert len(asked(dependencies, "zupertry", "cancel")) == 1
    assert ("accepted",) in store.writes
    assert charged(dependencies, "zupertry") == 0


async def test_a_read_that_is_cancelled_while_it_waits_for_its_turn_takes_none(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        with anyio.fail_after(HOUR):
            for _ in range(20):
                await call(client, "zsky_get_usage")
            for _ in range(10):
                with anyio.move_on_after(1):
                    await client.call_tool("zsky_get_usage", {})
            await anyio.sleep(60)
            began = clock()
            for _ in range(20):
                await call(client, "zsky_get_usage")
            assert clock() - began < 1
    assert len(asked(dependencies, "zsky", "usage")) == 40
