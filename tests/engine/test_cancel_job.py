"""Cancelling one job: while it waits here, while its request is on its way, and at the provider."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from darkroom.core.errors import JournalError
from darkroom.engine.calls import Caller
from darkroom.engine.cancellation import wish
from darkroom_tools.emulators.kit import Fault
from tests.engine.servers import asked_of, image, servers, wait_until
from tests.engine.support import HOUR, IMAGE, SAMPLES, TRYON, asked, charged, ended
from tests.harness import Fields, Rig, call, inline, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from darkroom.core.json_types import JsonObject
    from darkroom.jobs.registry import LiveJob
    from darkroom.mcp.server import DarkroomServer
    from mcp import Client

pytestmark = pytest.mark.anyio

DETAILS: Mapping[str, object] = {
    "workflow_details": {"operation": "grayscale"},
    "output_details": {"format": "png"},
}
STARTS: Mapping[str, Mapping[str, object]] = {
    "zsky_start_image": IMAGE.arguments,
    "zsky_start_video": {"prompt": "Waves against a lighthouse"},
    "zupertry_start_tryon": TRYON.arguments,
    "claid_start_image_edit": {
        "input": f"{SAMPLES}/model-1.jpg",
        "operations": {"resizing": {"width": 100}},
    },
    "zyng_start_images": {
        **DETAILS,
        "images": [{"image_url": f"{SAMPLES}/garment-{n}.jpg"} for n in (1, 2)],
    },
}
SUBMITS = {
    "zsky_start_image": "generate_image",
    "zsky_start_video": "generate_video",
    "zupertry_start_tryon": "submit",
    "claid_start_image_edit": "submit",
    "zyng_start_images": "register_request",
}
CANCEL = "cancel"
"""What Zupertry's emulator calls its cancellation."""


def submits(server: Rig) -> int:
    return sum(
        request.method == "POST"
        for emulator in server.sandbox.emulators.values()
        for request in emulator.requests
    )


async def tryon(client: Client) -> Fields:
    return await call(client, TRYON.start, **TRYON.arguments)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("tool", STARTS)
async def test_a_start_that_waits_here_is_withdrawn_at_every_provider(
    clock: Callable[[], float], tmp_path: Path, tool: str, store: str
) -> None:
    server = rig(clock, tmp_path, store=store)  # pyright: ignore[reportArgumentType] -- one of the two
    provider = tool.partition("_")[0]
    late = Fault(kind="status", status=429, retry_after="60")
    server.sandbox.emulators[provider].faults.add(SUBMITS[tool], late)
    with anyio.fail_after(HOUR):
        async with server.client() as client:
            job = await call(client, tool, **STARTS[tool])
            assert job["status"] == "queued"
            sent = submits(server)
            done = await call(client, "cancel_job", job_id=job["job_id"])
            assert done["status"] == "cancelled"
            again = await call(client, "cancel_job", job_id=job["job_id"])
            assert again["status"] == "cancelled"
            await anyio.sleep(600)
            assert submits(server) == sent
            spending = await call(client, "get_spending")
    assert not any(entry["spent"] for entry in spending["providers"])
    assert charged(server, provider) == 0


async def test_a_start_that_another_server_keeps_waiting_is_withdrawn(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as ((one, two), sandbox, _):
        late = Fault(kind="status", status=429, retry_after="60")
        sandbox.emulators["zsky"].faults.add("generate_image", late)
        job = await one.call(IMAGE.start, **IMAGE.arguments)
        done = await two.call("cancel_job", job_id=job["job_id"])
        assert done["status"] == "cancelled"
        await anyio.sleep(600)
        seen = await one.call(IMAGE.check, job_id=job["job_id"], wait_seconds=0)
        assert len(asked_of(sandbox, "generate_image", "zsky")) == 1
    assert seen["status"] == "cancelled"


@pytest.mark.parametrize("by", ["job_id", "provider_job_id"])
async def test_what_is_pending_at_a_provider_that_can_cancel_is_cancelled_there(
    clock: Callable[[], float], tmp_path: Path, by: str
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        job = await tryon(client)
        done = await call(client, "cancel_job", job_id=job[by])
    assert done["status"] == "cancelled"
    assert charged(server, "zupertry") == 0


async def test_a_refused_cancellation_says_why_and_the_job_goes_on(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    with anyio.fail_after(HOUR):
        async with server.client() as client:
            job = await tryon(client)
            await anyio.sleep(5)  # it is being processed: its page says that this is too late
            text = await refused(client, "cancel_job", job_id=job["job_id"])
            assert text.startswith("[conflict]")
            assert (await ended(client, TRYON.check, job["job_id"]))["status"] == "completed"
    assert len(asked(server, "zupertry", CANCEL)) == 1


@pytest.mark.parametrize("tool", ["zsky_start_image", "claid_start_image_edit"])
async def test_what_a_provider_has_that_cannot_cancel_goes_on(
    clock: Callable[[], float], tmp_path: Path, tool: str
) -> None:
    server = rig(clock, tmp_path)
    with anyio.fail_after(HOUR):
        async with server.client() as client:
            job = await call(client, tool, **STARTS[tool])
            text = await refused(client, "cancel_job", job_id=job["job_id"])
            assert text.startswith("[conflict]")
            assert "no way to cancel" in text
            check = "zsky_check_job" if tool.startswith("zsky") else "claid_check_image_edit"
            assert (await ended(client, check, job["job_id"]))["status"] == "completed"
            text = await refused(client, "cancel_job", job_id=job["job_id"])
    assert "is completed" in text


async def test_a_job_of_unknown_fate_and_a_batch_are_named_with_their_way_out(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    server.sandbox.emulators["zupertry"].faults.add("submit", Fault(kind="drop_after"))
    async with server.client() as client:
        job = await tryon(client)
        assert job["status"] == "unknown"
        assert "resolve_job" in await refused(client, "cancel_job", job_id=job["job_id"])
        items = [{"tool": IMAGE.start, "arguments": IMAGE.arguments}]
        batch = await call(client, "start_batch", items=items)
        assert "cancel_batch" in await refused(client, "cancel_job", job_id=batch["batch_id"])
        text = await refused(client, "cancel_job", job_id="zupertry_nothing")
    assert text.startswith("[not_found]")


async def test_what_is_on_its_way_is_cancelled_once_the_provider_has_answered(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path, time_scale=500)
    slow, done = Fault(kind="delay", seconds=20), Fields()
    server.sandbox.emulators["zupertry"].faults.add("submit", slow)
    with anyio.fail_after(HOUR):
        async with server.client() as client, anyio.create_task_group() as tasks:
            tasks.start_soon(tryon, client)
            await anyio.sleep(1)
            (job,) = (await call(client, "list_jobs"))["jobs"]
            done = await call(client, "cancel_job", job_id=job["job_id"])
    assert done["status"] == "cancelled"
    assert len(asked(server, "zupertry", CANCEL)) == 1
    assert charged(server, "zupertry") == 0


async def test_what_was_cancelled_while_it_waited_stays_so_though_the_month_is_used_up_since(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    month = {"DARKROOM_ZSKY__IMAGES_PER_MONTH": "1"}
    server = rig(clock, tmp_path, environment=month)
    with anyio.fail_after(HOUR):
        async with server.client() as client:
            prompts = {"prompt": [f"Harbour {n}" for n in range(40)]}
            batch = await call(
                client, "start_batch", tool="zsky_start_image", arguments={}, for_each=prompts
            )
            await call(client, "cancel_batch", batch_id=batch["batch_id"])
            before = await call(client, "check_batch", batch_id=batch["batch_id"])
            await anyio.sleep(HOUR / 2)
            after = await call(client, "check_batch", batch_id=batch["batch_id"])
    assert before["counts"]["cancelled"] > 0
    assert after["counts"]["cancelled"] == before["counts"]["cancelled"]


@pytest.mark.parametrize("fault", ["drop_before", "hang_before", "refuse"])
async def test_a_cancellation_that_does_not_get_through_is_sent_again(
    clock: Callable[[], float], tmp_path: Path, fault: str
) -> None:
    server = rig(clock, tmp_path, time_scale=500)
    trouble = Fault(kind=fault)  # pyright: ignore[reportArgumentType] -- one of FaultKind
    server.sandbox.emulators["zupertry"].faults.add(CANCEL, trouble, times=2)
    with anyio.fail_after(HOUR):
        async with server.client() as client:
            job = await tryon(client)
            await call(client, "cancel_job", job_id=job["job_id"])
            done = await ended(client, TRYON.check, job["job_id"])
    assert done["status"] == "cancelled"
    assert charged(server, "zupertry") == 0


async def test_the_wish_to_cancel_survives_a_kill(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = rig(clock, tmp_path / "first", store="sqlite", time_scale=500)
    first.sandbox.emulators["zupertry"].faults.add(CANCEL, Fault(kind="hang_before"))
    with anyio.fail_after(HOUR):
        async with first.client() as client:
            job = await tryon(client)
            with anyio.move_on_after(2):
                await call(client, "cancel_job", job_id=job["job_id"])
            state = tmp_path / "second" / "state"
            await inline(lambda: shutil.copytree(first.state, state))
            second = rig(
                clock, tmp_path / "second", store="sqlite", sandbox=first.sandbox, time_scale=500
            )
            before = len(asked(first, "zupertry", CANCEL))
            async with second.client() as other:
                done = await ended(other, TRYON.check, job["job_id"])
            assert len(asked(first, "zupertry", CANCEL)) > before
    assert done["status"] == "cancelled"
    assert charged(first, "zupertry") == 0


@pytest.mark.parametrize("asks", [0, 1])
async def test_images_of_a_job_that_were_not_sent_are_withdrawn(
    clock: Callable[[], float], tmp_path: Path, asks: int
) -> None:
    pictures = [image(n % 3 + 1) | {"image_name": f"p{n}"} for n in range(150)]
    async with servers(clock, tmp_path) as (both, sandbox, _):
        job = await both[0].call("zyng_start_images", **DETAILS, images=pictures)
        await anyio.sleep(10)
        sent = len(asked_of(sandbox, "process_image", "zyng"))
        assert 0 < sent < len(pictures)
        await both[asks].call("cancel_job", job_id=job["job_id"])
        done = await wait_until(both[0], "zyng_check_images", "completed", job_id=job["job_id"])
        assert sent <= len(asked_of(sandbox, "process_image", "zyng")) <= sent + 4
        paid = sum(charge.amount for charge in sandbox.emulators["zyng"].charges)
    assert any("cancelled before they were sent" in each for each in done["warnings"])
    assert done["cost"]["amount"] == paid


async def test_nothing_leaves_after_the_wish_though_the_journal_fails_in_between(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wish is written, the withdrawal is not: its turn to be sent comes first."""
    server = rig(clock, tmp_path)
    late = Fault(kind="status", status=429, retry_after="60")
    server.sandbox.emulators["zupertry"].faults.add("submit", late)
    failing = [JournalError("the disk is full")] * 8
    kept = Caller.withdraw

    async def withdraw(self: Caller, live: LiveJob) -> JsonObject:
        if failing:
            raise failing.pop()
        return await kept(self, live)

    with anyio.fail_after(HOUR):
        async with server.client() as client:
            job = await tryon(client)
            assert job["status"] == "queued"
            monkeypatch.setattr(Caller, "withdraw", withdraw)
            engine = cast("DarkroomServer", server.server).engine
            assert engine is not None
            live = await engine.job(job["job_id"])
            assert live is not None
            await wish(await engine.runtime(), live)
            assert (await ended(client, TRYON.check, job["job_id"]))["status"] == "cancelled"
    assert failing == []
    assert charged(server, "zupertry") == 0
    assert submits(server) == 1  # the one that was answered 429
