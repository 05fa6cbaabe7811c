"""Settling a job of unknown fate by the person's word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.core.errors import CallError
from darkroom.jobs.model import LOCAL_OWNER
from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.sandbox import Sandbox
from tests.engine.money import charged, ended, server, spending, zsky

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.process import Process
    from tests.harness import Fields

pytestmark = pytest.mark.anyio

IMAGE = "zsky_start_image"
CHECK = "zsky_check_job"
TRYON = {
    "model_image_url": "https://samples.sandbox.test/model-1.jpg",
    "garment_image_url": "https://samples.sandbox.test/garment-1.jpg",
}


async def lost(one: Process, sandbox: Sandbox, prompt: str = "lost") -> Fields:
    """Start a job that the provider has, and whose answer was lost."""
    zsky(sandbox).faults.add("generate_image", Fault(kind="drop_after"))
    job = await one.call(IMAGE, prompt=prompt)
    assert job["status"] == "unknown"
    return job


def at_provider(sandbox: Sandbox) -> str:
    """Return the id of the last job that the provider has: what its page shows a person."""
    return zsky(sandbox).charges[-1].job_id


async def refusal(one: Process, **arguments: object) -> str:
    with pytest.raises(CallError) as refused:
        await one.call("resolve_job", **arguments)
    return refused.value.text


@pytest.mark.parametrize("restart", [False, True])
async def test_a_submitted_job_is_followed_to_its_end(
    clock: Callable[[], float], tmp_path: Path, *, restart: bool
) -> None:
    sandbox = Sandbox(clock=clock)
    async with server(clock, tmp_path, sandbox) as (one, _):
        job = await lost(one, sandbox)
        settled = await one.call(
            "resolve_job",
            job_id=job["job_id"],
            outcome="submitted",
            provider_job_id=at_provider(sandbox),
        )
        assert settled["status"] == "running"
        assert "error" not in settled
        assert "evidence" not in settled
        if not restart:
            assert (await ended(one, CHECK, job["job_id"]))["status"] == "completed"
    async with server(clock, tmp_path, sandbox) as (one, _):
        assert (await ended(one, CHECK, job["job_id"]))["status"] == "completed"
        attempts = await (await one.store()).attempts(LOCAL_OWNER, job["job_id"])
        assert [(a.state, a.provider_id) for a in attempts] == [("accepted", at_provider(sandbox))]
        assert (await spending(one, "zsky", "images"))["spent"] == charged(sandbox, "zsky") == 1


@pytest.mark.parametrize("restart", [False, True])
async def test_a_job_that_was_not_submitted_has_failed_and_may_be_started_again(
    clock: Callable[[], float], tmp_path: Path, *, restart: bool
) -> None:
    sandbox = Sandbox(clock=clock)
    async with server(clock, tmp_path, sandbox) as (one, _):
        zsky(sandbox).faults.add("generate_image", Fault(kind="drop_before"))
        job = await one.call(IMAGE, prompt="lost")
        settled = await one.call("resolve_job", job_id=job["job_id"], outcome="not_submitted")
        assert settled["status"] == "failed"
        assert settled["error"]["next_step"] == "start it again if it is still wanted"
        if not restart:
            again = await one.call(IMAGE, prompt="lost")
            assert again["job_id"] != job["job_id"]
    async with server(clock, tmp_path, sandbox) as (one, _):
        again = await one.call(IMAGE, prompt="lost")
        assert again["job_id"] != job["job_id"]
        assert (await ended(one, CHECK, again["job_id"]))["status"] == "completed"
        assert (await one.call(CHECK, job_id=job["job_id"]))["status"] == "failed"
        attempts = await (await one.store()).attempts(LOCAL_OWNER, job["job_id"])
        assert [a.state for a in attempts] == ["refused"]
        assert charged(sandbox, "zsky") == 1


async def test_submitted_needs_the_providers_id(clock: Callable[[], float], tmp_path: Path) -> None:
    async with server(clock, tmp_path) as (one, sandbox):
        job = await lost(one, sandbox)
        text = await refusal(one, job_id=job["job_id"], outcome="submitted")
        assert text.startswith("[invalid_argument] provider_job_id")
        assert (await one.call(CHECK, job_id=job["job_id"]))["status"] == "unknown"


async def test_the_id_of_another_job_is_a_conflict(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path) as (one, sandbox):
        other = await one.call(IMAGE, prompt="other")
        job = await lost(one, sandbox)
        text = await refusal(
            one,
            job_id=job["job_id"],
            outcome="submitted",
            provider_job_id=other["provider_job_id"],
        )
        assert text.startswith("[conflict] ")
        assert other["job_id"] in text


@pytest.mark.parametrize("ended_before", [False, True])
async def test_a_lost_start_that_was_picked_up_by_the_providers_id_is_the_same_payment(
    clock: Callable[[], float], tmp_path: Path, *, ended_before: bool
) -> None:
    cap = {"DARKROOM_SPENDING__ZSKY_IMAGES_PER_DAY": "1"}
    async with server(clock, tmp_path, variables=cap) as (one, sandbox):
        job = await lost(one, sandbox)
        known_as = at_provider(sandbox)
        picked = await one.call(CHECK, job_id=known_as, wait_seconds=0)
        assert picked["job_id"] != job["job_id"]
        if ended_before:
            await ended(one, CHECK, picked["job_id"])
        await one.call(
            "resolve_job", job_id=job["job_id"], outcome="submitted", provider_job_id=known_as
        )
        assert (await ended(one, CHECK, job["job_id"]))["status"] == "completed"
        double = await one.call(CHECK, job_id=picked["job_id"], wait_seconds=0)
        assert double["status"] == "cancelled"
        assert job["job_id"] in double["warnings"][0]
        assert (await one.call(CHECK, job_id=known_as))["job_id"] == job["job_id"]
        assert (await spending(one, "zsky", "images"))["spent"] == 1
        assert (await one.said(IMAGE, prompt="another"))[1] == "spend_cap_reached"
    assert charged(sandbox, "zsky") == 1


@pytest.mark.parametrize("outcome", ["submitted", "not_submitted"])
async def test_only_an_unknown_job_can_be_settled(
    clock: Callable[[], float], tmp_path: Path, outcome: str
) -> None:
    async with server(clock, tmp_path) as (one, _):
        job = await one.call(IMAGE, prompt="known")
        arguments = {"job_id": job["job_id"], "outcome": outcome, "provider_job_id": "x"}
        assert (await refusal(one, **arguments)).startswith("[conflict] ")
        assert (await ended(one, CHECK, job["job_id"]))["status"] == "completed"
        assert (await refusal(one, **arguments)).startswith("[conflict] ")
        arguments["job_id"] = "zsky_nothing"
        assert (await refusal(one, **arguments)).startswith("[not_found] ")


async def test_an_unknown_job_is_never_sent_again_by_itself_and_a_new_key_may_be_a_new_intent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path, None, {"DARKROOM_JOBS__NEW_KEY": "new"}) as (one, sandbox):
        job = await lost(one, sandbox)
        await anyio.sleep(7_200)  # long after the window for identical calls
        same = await one.call(IMAGE, prompt="lost")
        assert same["job_id"] == job["job_id"]
        fresh = await one.call(IMAGE, prompt="lost", idempotency_key="again")
        assert fresh["job_id"] != job["job_id"]
        assert job["job_id"] in fresh["warnings"][0]
        assert charged(sandbox, "zsky") == 2


async def test_an_unknown_jobs_key_returns_it_and_with_other_arguments_is_a_conflict(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path) as (one, sandbox):
        zsky(sandbox).faults.add("generate_image", Fault(kind="hang_after"))
        job = await one.call(IMAGE, prompt="lost", idempotency_key="k")
        assert job["status"] == "unknown"
        await anyio.sleep(7_200)
        same = await one.call(IMAGE, prompt="lost", idempotency_key="k")
        assert same["job_id"] == job["job_id"]
        assert (await one.said(IMAGE, prompt="other", idempotency_key="k"))[1] == "conflict"
        assert charged(sandbox, "zsky") == 1


async def test_evidence_names_the_jobs_that_it_may_be_and_none_that_is_known_here(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with server(clock, tmp_path, None, {"DARKROOM_JOBS__NEW_KEY": "new"}) as (one, sandbox):
        known = await one.call("zupertry_start_tryon", **TRYON, idempotency_key="known")
        zupertry = sandbox.emulators["zupertry"]
        zupertry.faults.add("submit", Fault(kind="drop_after"))
        job = await one.call("zupertry_start_tryon", **TRYON, idempotency_key="lost")
        assert job["status"] == "unknown"
        await anyio.sleep(10)
        shown = await one.call("zupertry_check_tryon", job_id=job["job_id"])
        assert shown["status"] == "unknown"
        assert known["provider_job_id"] not in shown["evidence"]["candidates"]
        (candidate,) = shown["evidence"]["candidates"]
        assert candidate == zupertry.charges[-1].job_id


async def test_what_one_process_settles_every_process_knows_at_once(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock)
    async with (
        server(clock, tmp_path, sandbox) as (one, _),
        server(clock, tmp_path, sandbox) as (two, _),
    ):
        first, second = await lost(one, sandbox), await lost(one, sandbox, "lost too")
        newest = at_provider(sandbox)
        assert (await two.call(CHECK, job_id=second["job_id"]))["status"] == "unknown"
        await two.call("resolve_job", job_id=first["job_id"], outcome="not_submitted")
        await two.call(
            "resolve_job", job_id=second["job_id"], outcome="submitted", provider_job_id=newest
        )
        assert (await one.call(CHECK, job_id=first["job_id"]))["status"] == "failed"
        assert (await refusal(one, job_id=first["job_id"], outcome="not_submitted")).startswith(
            "[conflict] "
        )
        assert (await ended(one, CHECK, second["job_id"]))["status"] == "completed"
        assert (await two.call(CHECK, job_id=second["job_id"]))["status"] == "completed"
        store = await two.store()
        states = [
            (await store.attempts(LOCAL_OWNER, j["job_id"]))[-1].state for j in (first, second)
        ]
        assert states == ["refused", "accepted"]


async def test_a_wait_ends_when_another_process_settles_the_job(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock)
    async with (
        server(clock, tmp_path, sandbox) as (one, _),
        server(clock, tmp_path, sandbox) as (two, _),
    ):
        sandbox.emulators["zupertry"].faults.add("submit", Fault(kind="never_finish"))
        job = await one.call("zupertry_start_tryon", **TRYON)
        began, waits = clock(), 0.0

        async def wait() -> None:
            nonlocal waits
            done = await one.call("zupertry_check_tryon", job_id=job["job_id"], wait_seconds=40)
            assert done["status"] == "cancelled"
            waits = clock() - began

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(1.05)
            await two.call("zupertry_cancel_tryon", job_id=job["job_id"])
        assert waits <= 1.05 + 0.25
