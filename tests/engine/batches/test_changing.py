"""Cancelling a batch in every state, and running again what is safe to run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.jobs.model import LOCAL_OWNER
from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.sandbox import Sandbox
from tests.engine.batches.support import charged, look_book, prompts, until_done
from tests.engine.servers import servers
from tests.engine.stores import TroubledStore
from tests.engine.support import DAY
from tests.faults.process import process
from tests.harness import call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness import Fields, Rig

pytestmark = pytest.mark.anyio


def tryons(of: Rig | Sandbox, count: int) -> dict[str, object]:
    sample = of.sample if isinstance(of, Sandbox) else of.sandbox.sample
    return {
        "tool": "zupertry_start_tryon",
        "arguments": {"model_image_url": sample("model", 1)},
        "for_each": {"garment_image_url": [sample("garment", n + 1) for n in range(count)]},
    }


def outcome(report: Fields) -> dict[str, int]:
    return dict(report["counts"])


async def test_a_batch_is_cancelled_before_anything_left(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment={"DARKROOM_ZSKY__IMAGES_PER_DAY": "1"})
    async with dependencies.client() as client:
        await call(client, "zsky_start_image", prompt="The only one of today")
        started = await call(client, "start_batch", **prompts(3))
        ended = await call(client, "cancel_batch", batch_id=started["batch_id"])
    assert ended["status"] == "cancelled"
    assert outcome(ended) == {"cancelled": 3}
    assert charged(dependencies, "zsky") == 1


async def test_what_is_pending_at_the_provider_is_cancelled_there_and_paid_back(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **tryons(dependencies, 3))
        await anyio.sleep(0.3)
        ended = await call(client, "cancel_batch", batch_id=started["batch_id"])
    assert outcome(ended) == {"cancelled": 3}
    assert charged(dependencies, "zupertry") == 0


async def test_what_is_on_its_way_is_cancelled_as_soon_as_the_provider_has_answered(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    slow = Fault(kind="delay", seconds=0.8)
    dependencies.sandbox.emulators["zupertry"].faults.add("submit", slow, times=None)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **tryons(dependencies, 3))
        await anyio.sleep(0.3)
        ended = await call(client, "cancel_batch", batch_id=started["batch_id"])
    assert outcome(ended) == {"cancelled": 3}
    assert charged(dependencies, "zupertry") == 0


@pytest.mark.parametrize("waits", [True, False])
async def test_a_cancelled_batch_stays_cancelled_after_a_kill(
    clock: Callable[[], float], tmp_path: Path, *, waits: bool
) -> None:
    async with servers(clock, tmp_path, 1) as ((one,), sandbox, tasks):
        emulator = sandbox.emulators["zupertry"]
        if waits:  # for the rate, or at the provider
            late = Fault(kind="status", status=429, retry_after="60")
            emulator.faults.add("submit", late, times=None)
        batch = await one.call("start_batch", **tryons(sandbox, 4))
        await anyio.sleep(0.2)
        # the server is killed right after the wish was written, before anything is carried out
        store = await one.store()
        row = await store.job(LOCAL_OWNER, batch["batch_id"])
        assert row is not None
        await store.write(row.next(status="cancelled", ended_at=clock()))
        await one.kill()
        emulator.faults.clear()
        two = process(sandbox, tmp_path, clock, {}, seed=7)
        two.begin(tasks)
        await anyio.sleep(120)
        report = await two.call("check_batch", batch_id=batch["batch_id"], wait_seconds=0)
        await two.stop()
        assert sum(charge.amount for charge in emulator.charges) == 0
    assert report["counts"] == {"cancelled": 4}
    assert report["status"] == "cancelled"


@pytest.mark.parametrize("at", [0.3, 4])
async def test_the_wish_is_written_down_before_anything_is_cancelled(
    clock: Callable[[], float], tmp_path: Path, at: float
) -> None:
    store = TroubledStore()
    dependencies = rig(clock, tmp_path, open_store=store.opened)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **look_book(dependencies))
        await anyio.sleep(at)
        before = len(store.writes)
        await call(client, "cancel_batch", batch_id=started["batch_id"])
        cancelled = [states for states in store.writes[before:] if states[0] == "cancelled"]
        assert cancelled[0] == ("cancelled",), "the batch's own row, which has no attempt"
        ended = await until_done(client, started["batch_id"])
    assert ended["status"] == "cancelled"


async def test_what_waits_for_the_first_stage_is_cancelled_without_an_error(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **look_book(dependencies))
        await anyio.sleep(4)
        now = await call(client, "cancel_batch", batch_id=started["batch_id"])
        ended = await until_done(client, started["batch_id"])
    assert "failures" not in now
    assert ended["status"] == "cancelled"
    assert ended["counts"]["cancelled"] >= 4
    assert dependencies.sandbox.emulators["claid"].requests == []


async def test_a_batch_that_has_ended_stays_as_it_is(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(2))
        await until_done(client, started["batch_id"])
        again = await call(client, "cancel_batch", batch_id=started["batch_id"])
    assert again["status"] == "completed"
    assert outcome(again) == {"completed": 2}


async def test_an_unknown_item_stays_unknown_when_the_batch_is_cancelled(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators["zsky"].faults.add("generate_image", Fault(kind="drop_after"))
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(6))
        await anyio.sleep(1)
        await call(client, "cancel_batch", batch_id=started["batch_id"])
        ended = await until_done(client, started["batch_id"])
    assert ended["counts"]["unknown"] == 1
    assert charged(dependencies, "zsky") == 3


async def test_what_waited_for_a_failed_item_runs_when_that_is_retried(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    dependencies.sandbox.emulators["zupertry"].faults.add("submit", Fault(kind="refuse"), times=12)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **look_book(dependencies))
        ended = await until_done(client, started["batch_id"])
        assert outcome(ended) == {"failed": 4, "cancelled": 4}
        again = await call(client, "retry_batch", batch_id=started["batch_id"])
        assert again["retried"] == 8
        ended = await until_done(client, started["batch_id"])
    assert outcome(ended) == {"completed": 8}
    assert charged(dependencies, "zupertry") == 4


async def test_what_the_person_cancelled_is_not_retried(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **look_book(dependencies))
        await call(client, "cancel_batch", batch_id=started["batch_id"])
        await until_done(client, started["batch_id"])
        again = await call(client, "retry_batch", batch_id=started["batch_id"])
    assert again["retried"] == 0
    assert again["status"] == "cancelled"


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_retry_is_paid_for_again_and_passes_no_cap(
    clock: Callable[[], float], tmp_path: Path, store: str
) -> None:
    dependencies = rig(
        clock,
        tmp_path,
        store=store,  # pyright: ignore[reportArgumentType] -- one of the two
        environment={"DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "3"},
    )
    async with dependencies.client() as client:
        prompt = "fails-in-processing, twice"
        started = await call(
            client,
            "start_batch",
            items=[{"tool": "zsky_start_image", "arguments": {"prompt": prompt}}],
        )
        await until_done(client, started["batch_id"])
        again = await call(client, "retry_batch", batch_id=started["batch_id"])
        assert again["retried"] == 1
        await until_done(client, started["batch_id"])
        spending = await call(client, "get_spending")
        assert spending["providers"][0]["spent"] == charged(dependencies, "zsky") == 2
        await call(client, "zsky_start_image", prompt="The third and last")
        text = await refused(client, "retry_batch", batch_id=started["batch_id"])
        report = await call(client, "check_batch", batch_id=started["batch_id"], wait_seconds=0)
    assert text.startswith("[spend_cap_reached]")
    assert outcome(report) == {"failed": 1}
    assert charged(dependencies, "zsky") == 3


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_retry_counts_on_the_day_on_which_it_runs(
    clock: Callable[[], float], tmp_path: Path, store: str
) -> None:
    dependencies = rig(
        clock,
        tmp_path,
        store=store,  # pyright: ignore[reportArgumentType] -- one of the two
        environment={"DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "3"},
    )
    async with dependencies.client() as client:
        started = await call(
            client,
            "start_batch",
            items=[
                {"tool": "zsky_start_image", "arguments": {"prompt": f"fails-in-processing {n}"}}
                for n in range(3)
            ],
        )
        await until_done(client, started["batch_id"])
        await anyio.sleep(DAY)
        again = await call(client, "retry_batch", batch_id=started["batch_id"])
        assert again["retried"] == 3
        await until_done(client, started["batch_id"])
        # both days are full: neither a retry nor a start goes through
        text = await refused(client, "retry_batch", batch_id=started["batch_id"])
        assert text.startswith("[spend_cap_reached]")
        text = await refused(client, "zsky_start_image", prompt="A fourth one")
        assert text.startswith("[spend_cap_reached]")
        spending = await call(client, "get_spending")
    assert spending["providers"][0]["spent"] == 3  # of today
    assert charged(dependencies, "zsky") == 6


async def test_a_dry_run_says_that_a_cap_is_in_the_way(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path, environment={"DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "4"})
    async with dependencies.client() as client:
        said = await call(client, "start_batch", **prompts(5), dry_run=True)
    assert "zsky_images_per_day" in said["warnings"][0]
