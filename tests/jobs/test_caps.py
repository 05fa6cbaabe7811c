"""Caps: per process, UTC day and month, in the provider's unit and in money."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.core.errors import CallError
from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.sandbox import Sandbox
from tests.engine.money import DAY, arrived, charged, ended, server, spending, zsky

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

VIDEO = "zsky_start_video"
CHECK = "zsky_check_job"
TRYON = {
    "model_image_url": "https://samples.sandbox.test/model-1.jpg",
    "garment_image_url": "https://samples.sandbox.test/garment-1.jpg",
}


@pytest.mark.parametrize(
    ("cap", "limit"),
    [
        ("ZSKY_VIDEOS_PER_PROCESS", "2"),
        ("ZSKY_VIDEOS_PER_DAY", "2"),
        ("ZSKY_VIDEOS_PER_MONTH", "2"),
        ("MONEY_PER_PROCESS", "1.2"),
        ("MONEY_PER_DAY", "1"),
        ("MONEY_PER_MONTH", "1.49"),
    ],
)
async def test_the_start_that_would_pass_a_cap_is_refused_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path, cap: str, limit: str
) -> None:
    async with server(clock, tmp_path, None, {f"DARKROOM_SPENDING__{cap}": limit}) as (
        one,
        sandbox,
    ):
        await one.call(VIDEO, prompt="one")
        await one.call(VIDEO, prompt="two")
        with pytest.raises(CallError) as refused:
            await one.call(VIDEO, prompt="three")
        assert refused.value.failure.code == "spend_cap_reached"
        assert cap.lower() in refused.value.failure.message
        assert "nothing was sent" in refused.value.failure.message
        again = await one.call(VIDEO, prompt="two")  # the same intent needs no money
        assert again["status"] == "running"
        assert arrived(sandbox, "zsky", "generate_video") == charged(sandbox, "zsky") == 2
        assert len((await one.call("list_jobs"))["jobs"]) == 2


async def test_fifty_parallel_starts_cannot_overshoot(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    cap = {"DARKROOM_SPENDING__ZUPERTRY_CREDITS_PER_DAY": "7", "DARKROOM_JOBS__NEW_KEY": "new"}
    outcomes: list[str] = []
    async with server(clock, tmp_path, None, cap) as (one, sandbox):

        async def start(number: int) -> None:
            _, code = await one.said("zupertry_start_tryon", **TRYON, idempotency_key=f"k{number}")
            outcomes.append(code)

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(start, number)
        assert outcomes.count("") == 7
        assert outcomes.count("spend_cap_reached") == 43
        assert arrived(sandbox, "zupertry", "submit") == charged(sandbox, "zupertry") == 7


async def test_fifty_parallel_starts_of_two_processes_cannot_overshoot_either(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    cap = {"DARKROOM_SPENDING__ZUPERTRY_CREDITS_PER_DAY": "7", "DARKROOM_JOBS__NEW_KEY": "new"}
    outcomes: list[str] = []
    async with (
        server(clock, tmp_path, None, cap) as (one, sandbox),
        server(clock, tmp_path, sandbox, cap) as (two, _),
    ):

        async def start(number: int) -> None:
            which = (one, two)[number % 2]
            _, code = await which.said(
                "zupertry_start_tryon", **TRYON, idempotency_key=f"k{number}"
            )
            outcomes.append(code)

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(start, number)
        assert outcomes.count("") == 7
        assert charged(sandbox, "zupertry") == 7


async def test_a_day_a_month_and_a_process_begin_anew(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    caps = {
        "DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "1",
        "DARKROOM_SPENDING__ZSKY_VIDEOS_PER_MONTH": "1",
        "DARKROOM_SPENDING__ZUPERTRY_CREDITS_PER_PROCESS": "1",
        "DARKROOM_JOBS__NEW_KEY": "new",
    }
    starts = (
        ("zsky_start_image", {"prompt": "p"}),
        (VIDEO, {"prompt": "p"}),
        ("zupertry_start_tryon", TRYON),
    )
    sandbox = Sandbox(clock=clock)

    async def passed(serial: int) -> list[bool]:
        return [
            (await one.said(tool, **arguments, idempotency_key=f"{tool}{serial}"))[1] == ""
            for tool, arguments in starts
        ]

    async with server(clock, tmp_path, sandbox, caps) as (one, _):
        assert await passed(1) == [True, True, True]
        assert await passed(2) == [False, False, False]
        await anyio.sleep(DAY)  # 23 November
        assert await passed(3) == [True, False, False]
    async with server(clock, tmp_path, sandbox, caps) as (one, _):
        assert await passed(4) == [False, False, True]
        await anyio.sleep(9 * DAY)  # 2 December
        assert await passed(5) == [True, True, False]


async def test_what_is_refused_gives_its_reservation_back(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    cap = {"DARKROOM_SPENDING__ZSKY_VIDEOS_PER_DAY": "1"}
    async with server(clock, tmp_path, None, cap) as (one, sandbox):
        zsky(sandbox).faults.add("generate_video", Fault(kind="status", status=400))
        assert (await one.said(VIDEO, prompt="refused"))[1] == "invalid_argument"
        assert (await spending(one, "zsky", "videos")) == {
            "provider": "zsky",
            "unit": "videos",
            "spent": 0,
            "cap": 1,
            "left": 1,
            "setting": "zsky_videos_per_day",
        }
        zsky(sandbox).faults.add("generate_video", Fault(kind="refuse"), times=3)
        assert (await one.said(VIDEO, prompt="never left"))[1] == "provider_unavailable"
        assert (await one.call(VIDEO, prompt="taken"))["status"] == "running"
        assert charged(sandbox, "zsky") == 1


async def test_what_was_started_counts_from_its_start_and_exactly_from_its_end(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path, None, {"DARKROOM_JOBS__NEW_KEY": "new"}) as (one, sandbox):
        job = await one.call("zupertry_start_tryon", **TRYON)
        assert job["cost"] == {"amount": 1, "unit": "credits", "basis": "estimate"}
        assert (await spending(one, "zupertry", "credits"))["spent"] == 1
        done = await ended(one, "zupertry_check_tryon", job["job_id"])
        assert done["cost"] == {"amount": 1, "unit": "credits", "basis": "exact"}
        assert (await spending(one, "zupertry", "credits"))["spent"] == 1
        pending = await one.call("zupertry_start_tryon", **TRYON, idempotency_key="another")
        await one.call("zupertry_cancel_tryon", job_id=pending["job_id"])
        gone = await one.call("zupertry_check_tryon", job_id=pending["job_id"])
        assert (gone["status"], gone["cost"]["amount"]) == ("cancelled", 0)
        assert (await spending(one, "zupertry", "credits"))["spent"] == 1
        assert charged(sandbox, "zupertry") == 1


@pytest.mark.parametrize("restart", [False, True])
async def test_what_is_of_unknown_fate_stays_reserved_until_the_person_settles_it(
    clock: Callable[[], float], tmp_path: Path, *, restart: bool
) -> None:
    cap = {"DARKROOM_SPENDING__ZSKY_VIDEOS_PER_DAY": "1"}
    sandbox = Sandbox(clock=clock)
    zsky(sandbox).faults.add("generate_video", Fault(kind="drop_before"))
    async with server(clock, tmp_path, sandbox, cap) as (one, _):
        lost = await one.call(VIDEO, prompt="lost")
        assert lost["status"] == "unknown"
        await anyio.sleep(3_600)
        assert (await one.said(VIDEO, prompt="next"))[1] == "spend_cap_reached"
        if not restart:
            await one.call("resolve_job", job_id=lost["job_id"], outcome="not_submitted")
            assert (await one.call(VIDEO, prompt="next"))["status"] == "running"
    async with server(clock, tmp_path, sandbox, cap) as (one, _):
        if restart:
            assert (await one.said(VIDEO, prompt="next"))[1] == "spend_cap_reached"
            await one.call("resolve_job", job_id=lost["job_id"], outcome="not_submitted")
            assert (await one.call(VIDEO, prompt="next"))["status"] == "running"
        assert (await spending(one, "zsky", "videos"))["spent"] == charged(sandbox, "zsky") == 1


async def test_a_job_of_many_requests_costs_what_was_not_refused(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    images = [
        {"image_url": "https://samples.sandbox.test/product-1.jpg", "image_name": f"i{n}"}
        for n in range(4)
    ]
    details = {"workflow_details": {"a": 1}, "output_details": {"b": 2}}
    tier = {"DARKROOM_ZYNG__TIER": "3"}
    async with server(clock, tmp_path, None, tier) as (one, sandbox):
        sandbox.emulators["zyng"].faults.add("process_image", Fault(kind="status", status=400))
        job = await one.call("zyng_start_images", images=images, **details)
        assert (await spending(one, "zyng", "images"))["spent"] == 4
        done = await ended(one, "zyng_check_images", job["job_id"])
        assert done["status"] == "completed", done
        assert done["progress"] == {"done": 3, "total": 4}
        assert done["cost"] == {"amount": 3, "unit": "images", "basis": "exact"}
        assert (await spending(one, "zyng", "images"))["spent"] == 3
        assert charged(sandbox, "zyng") == 3


async def test_an_evaluation_counts_against_the_caps(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    cap = {"DARKROOM_SPENDING__ZNYX_EVALUATIONS_PER_DAY": "2"}
    async with server(clock, tmp_path, None, cap) as (one, sandbox):
        assert (await one.call("znyx_evaluate_input", text="hello"))["allowed"] is True
        sandbox.emulators["znyx"].faults.add(
            "runtime.evaluateInput", Fault(kind="status", status=422)
        )
        assert (await one.said("znyx_evaluate_input", text="hello"))[1] == "invalid_argument"
        assert (await one.call("znyx_evaluate_output", text="hello"))["allowed"] is True
        assert (await one.said("znyx_evaluate_input", text="x"))[1] == "spend_cap_reached"
        assert (await spending(one, "znyx", "evaluations"))["spent"] == 2
        assert charged(sandbox, "znyx") == 2
