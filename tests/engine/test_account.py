"""What a provider says of the account is believed, once, by whoever sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.zupertry.state import LIVE_KEY, TEST_KEY
from tests.engine.batches.support import prompts, until_done
from tests.engine.money import Asked
from tests.engine.support import (
    DAY,
    HOUR,
    IMAGE,
    SAMPLES,
    TRYON,
    asked,
    charged,
    ended,
    most_in_a_window,
    received,
    until,
    zsky,
)
from tests.harness import call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

NO_DOWNLOADS = {"DARKROOM_RESULTS__DOWNLOAD": "never"}


def tryons(count: int) -> dict[str, object]:
    """Return the arguments of a batch of try-ons."""
    return {
        "tool": TRYON.start,
        "for_each": {
            "model_image_url": [f"{SAMPLES}/model-{n + 1}.jpg" for n in range(count)],
            "garment_image_url": [f"{SAMPLES}/garment-1.jpg"],
        },
    }


# --- limits are settings, and learned ---


async def test_limits_that_were_raised_on_request_are_settings(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(
        clock,
        tmp_path,
        environment={
            **NO_DOWNLOADS,
            "DARKROOM_ZSKY__REQUESTS_PER_MINUTE": "200",
            "DARKROOM_ZSKY__CONCURRENT_JOBS": "20",
        },
        switches={"zsky": {"requests_per_minute": 200, "concurrent_jobs": 20}},
    )
    async with server.client() as client:
        began = clock()
        started = await call(client, "start_batch", **prompts(20))
        await until_done(client, started["batch_id"])
        assert clock() - began < 60, "at the documented limits it takes more than a minute"
    assert charged(server, "zsky") == 20
    assert 429 not in {each.status for each in asked(server, "zsky")}


async def test_limits_that_were_lowered_are_settings_too(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(
        clock,
        tmp_path,
        environment={**NO_DOWNLOADS, "DARKROOM_ZUPERTRY__REQUESTS_PER_MINUTE": "6"},
        switches={"zupertry": {"requests_per_minute": 6}},
    )
    async with server.client() as client:
        started = await call(client, "start_batch", **tryons(12))
        await until_done(client, started["batch_id"])
    assert most_in_a_window(server.sandbox.emulators["zupertry"]) <= 6
    assert 429 not in {each.status for each in asked(server, "zupertry")}


async def test_a_slower_account_that_says_so_is_met_with_few_refusals(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(
        clock,
        tmp_path,
        environment=NO_DOWNLOADS,
        switches={"claid": {"limits": [(10, 60), (1, 1)]}},
    )
    batch = {
        "tool": "claid_start_image_edit",
        "arguments": {"operations": {"resizing": {"width": 300}}},
        "for_each": {"input": [f"{SAMPLES}/product-{n + 1}.jpg" for n in range(12)]},
        "copies": 3,
    }
    async with server.client() as client:
        started = await call(client, "start_batch", **batch)
        report = await until_done(client, started["batch_id"], hours=2)
    assert report["counts"] == {"completed": 36}
    assert sum(each.status == 429 for each in asked(server, "claid")) <= 3


# --- a refusal that repeats ---


async def test_a_days_cap_that_others_used_up_is_tried_seldom_and_passes_with_the_day(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(
        clock,
        tmp_path,
        environment=NO_DOWNLOADS,
        switches={"zsky": {"used_elsewhere": {"image": 200}}},
    )
    async with server.client() as client:
        started = await call(client, "start_batch", **prompts(3))
        await anyio.sleep(28 * HOUR)
        report = await until_done(client, started["batch_id"], hours=1)
    assert report["counts"] == {"completed": 3}
    assert len(asked(server, "zsky", "generate_image")) < 40


async def test_a_provider_that_takes_nothing_any_more_is_an_error_in_the_end(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    zsky(server).faults.add("generate_image", Fault(kind="status", status=429), times=None)
    async with server.client() as client:
        started = await call(client, "start_batch", **prompts(3))
        await anyio.sleep(28 * HOUR)
        report = await until_done(client, started["batch_id"], hours=1)
        (kind,) = report["failures"]
    assert (kind["code"], kind["count"]) == ("rate_limited", 3)
    assert len(asked(server, "zsky", "generate_image")) < 50


@pytest.mark.parametrize("said", ["0", "-5", "Thu, 01 Jan 1970 00:00:00 GMT"])
async def test_a_retry_after_that_says_nothing_gets_a_floor(
    clock: Callable[[], float], tmp_path: Path, said: str
) -> None:
    server = rig(clock, tmp_path)
    fault = Fault(kind="status", status=429, retry_after=said)
    server.sandbox.emulators["zupertry"].faults.add("submit", fault, times=8)
    async with server.client() as client:
        began = clock()
        job = await call(client, TRYON.start, **TRYON.arguments)
        assert (job["status"], job["queued_for"]) == ("queued", "pacing")
        await anyio.sleep(began + 15 - clock())
        assert len(asked(server, "zupertry", "submit")) <= 3
        assert (await ended(client, TRYON.check, job["job_id"]))["status"] == "completed"


# --- refusals that are meant for the account ---

REFUSALS = [(401, "auth_failed"), (402, "insufficient_credits"), (403, "suspended")]
BODIES = {
    401: b'{"error":{"code":"api_key_revoked","message":"Revoked"}}',
    402: b'{"error":{"code":"insufficient_credits","message":"Credit balance is 0"}}',
    403: b'{"error":{"code":"account_suspended","message":"Suspended"}}',
}


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize(("status", "code"), REFUSALS)
async def test_after_the_first_refusal_of_an_account_the_rest_waits_and_goes_on_when_it_is_well(
    clock: Callable[[], float], tmp_path: Path, status: int, code: str, store: str
) -> None:
    server = rig(clock, tmp_path, store=store, environment=NO_DOWNLOADS)  # pyright: ignore[reportArgumentType] -- one of two
    emulator = server.sandbox.emulators["zupertry"]
    fault = Fault(kind="status", status=status, body=BODIES[status])
    emulator.faults.add("submit", fault, times=None)
    async with server.client() as client:
        started = await call(client, "start_batch", **tryons(12))
        await anyio.sleep(600)
        sent = len(asked(server, "zupertry", "submit"))
        assert sent <= 12, "what was on its way when the first refusal came, and no more"
        report = await call(
            client, "check_batch", batch_id=started["batch_id"], wait_seconds=0, show="all"
        )
        assert report["counts"] == {"queued": 12}
        jobs = (await call(client, "list_jobs", batch_id=started["batch_id"]))["jobs"]
        assert {job["queued_for"] for job in jobs if job["operation"] == TRYON.start} == {"account"}
        assert {job["error"]["code"] for job in jobs if "error" in job} == {code}
        await anyio.sleep(8 * HOUR)
        assert len(asked(server, "zupertry", "submit")) - sent <= 12, (
            "one try at a growing distance"
        )
        emulator.faults.clear()
        report = await until_done(client, started["batch_id"], hours=2)
    assert report["counts"] == {"completed": 12}
    assert charged(server, "zupertry") == 12


async def test_waiting_jobs_go_on_with_another_key(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("zsky_live_sandbox_revoked")
    server = rig(
        clock,
        tmp_path,
        without=("ZSKY_API_KEY",),
        environment={"ZSKY_API_KEY_FILE": str(key_file), **NO_DOWNLOADS},
    )
    async with server.client() as client:
        started = await call(client, "start_batch", **prompts(6))
        await anyio.sleep(30 * 60)
        assert len(asked(server, "zsky", "generate_image")) <= 3
        key_file.write_text("zsky_live_sandbox_not_a_real_key")
        report = await until_done(client, started["batch_id"], hours=0.2)
    assert report["counts"] == {"completed": 6}


async def test_a_call_is_told_what_its_account_was_told_without_sending_anything(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    zsky(server).suspend("zsky_live_sandbox_not_a_real_key")
    async with server.client() as client:
        for number in range(5):
            text = await refused(client, IMAGE.start, prompt=f"picture {number}")
            assert text.startswith("[suspended] ")
        await anyio.sleep(DAY + 60)
        job = await call(client, IMAGE.start, prompt="the next day")
        assert (await ended(client, IMAGE.check, job["job_id"]))["status"] == "completed"
    assert received(server, IMAGE) == 1
    assert len(asked(server, "zsky", "generate_image")) == 2


async def test_a_person_who_topped_up_can_go_on_after_a_minute(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    fault = Fault(kind="status", status=402, body=BODIES[402])
    server.sandbox.emulators["zupertry"].faults.add("submit", fault)
    async with server.client() as client:
        assert (await refused(client, TRYON.start, **TRYON.arguments)).startswith("[insufficient")
        assert (await refused(client, TRYON.start, **TRYON.arguments)).startswith("[insufficient")
        assert len(asked(server, "zupertry", "submit")) == 1
        await anyio.sleep(61)
        job = await call(client, TRYON.start, **TRYON.arguments)
        assert (await ended(client, TRYON.check, job["job_id"]))["status"] == "completed"


async def test_a_suspended_key_is_asked_seldom_about_what_runs(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        jobs = [await call(client, IMAGE.start, prompt=f"picture {n}") for n in range(3)]
        zsky(server).suspend("zsky_live_sandbox_not_a_real_key")
        suspended = clock()
        await until(lambda: clock() - suspended >= 23 * HOUR, every=600)
        assert len(asked(server, "zsky", "get_job")) < 45
        for job in jobs:
            done = await ended(client, IMAGE.check, job["job_id"], hours=3)
            assert done["status"] == "completed"


# --- what it costs depends on whose account it is ---


@pytest.mark.parametrize(("key", "asks"), [(TEST_KEY, False), (LIVE_KEY, True)])
async def test_a_test_key_costs_nothing_and_asks_nothing(
    clock: Callable[[], float], tmp_path: Path, key: str, *, asks: bool
) -> None:
    caps = {"DARKROOM_SPENDING__ZUPERTRY_CREDITS_PER_DAY": "4"}
    above = {"DARKROOM_APPROVAL__ABOVE": '{"zupertry_credits": 0}'}
    server = rig(
        clock, tmp_path, environment={**NO_DOWNLOADS, **caps, **above, "ZUPERTRY_API_KEY": key}
    )
    person = Asked()
    async with server.client(elicitation=person) as client:
        job = await call(client, TRYON.start, **TRYON.arguments)
        done = await ended(client, TRYON.check, job["job_id"])
        started = await call(client, "start_batch", **tryons(3))
        report = await until_done(client, started["batch_id"])
        spending = (await call(client, "get_spending"))["providers"]
    assert bool(person.questions) is asks
    assert done["cost"]["amount"] == (1 if asks else 0)
    assert report["counts"] == {"completed": 3}
    spent = [each["spent"] for each in spending if each["provider"] == "zupertry"]
    assert sum(spent) == (4 if asks else 0)


async def test_a_batch_with_a_test_key_passes_no_cap(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    caps = {"DARKROOM_SPENDING__ZUPERTRY_CREDITS_PER_DAY": "1"}
    server = rig(
        clock, tmp_path, environment={**NO_DOWNLOADS, **caps, "ZUPERTRY_API_KEY": TEST_KEY}
    )
    async with server.client() as client:
        said = await call(client, "start_batch", **tryons(6), dry_run=True)
        assert all(each["amount"] == 0 for each in said["cost"])
        started = await call(client, "start_batch", **tryons(6))
        report = await until_done(client, started["batch_id"])
    assert report["counts"] == {"completed": 6}
