"""Black Forest Labs through the server: the address to poll, exact costs, moderation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from darkroom.jobs.bounds import NOT_BELIEVED
from darkroom_tools.emulators.bfl.emulator import BLOCKED_TRIGGER, FAIL_TRIGGER, BflEmulator
from darkroom_tools.emulators.kit import Fault
from tests.harness import Fields, Rig, call, refused, rig
from tests.snapshots import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp import Client

pytestmark = pytest.mark.anyio


def bfl(clock: Callable[[], float], folder: Path, **more: Any) -> Rig:
    switches = {"bfl": more.pop("switches", {})}
    return rig(clock, folder, catalogue=EVERYTHING, switches=switches, **more)


def emulator(server: Rig) -> BflEmulator:
    return cast("BflEmulator", server.sandbox.emulators["bfl"])


async def ended(client: Client, started: Fields) -> Fields:
    job: Fields = started
    while job["status"] in {"queued", "running"}:
        job = await call(client, "bfl_check_job", job_id=started["job_id"], wait_seconds=40)
    return job


async def test_a_picture_is_polled_on_the_cluster_that_took_it_and_costs_what_it_said(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = bfl(clock, tmp_path)
    async with server.client() as client:
        started = await call(
            client, "bfl_start_image", prompt="a lighthouse", width=1024, height=2048, seed=4
        )
        assert started["cost"] == {"amount": 4.5, "unit": "credits", "basis": "exact"}
        job = await ended(client, started)
        left = await call(client, "bfl_get_credits")
    assert job["status"] == "completed"
    assert job["details"] == {"seed": 4}
    assert (job["outputs"][0]["width"], job["outputs"][0]["height"]) == (1024, 2048)
    assert left == {"credits": 995.5}
    operations = {each.operation for each in emulator(server).requests}
    assert operations == {"submit", "poll", "download", "credits"}


async def test_pictures_that_go_in_have_arguments_of_their_own(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = bfl(clock, tmp_path)
    one, two = server.sandbox.sample("model", 1), server.sandbox.sample("garment", 1)
    async with server.client() as client:
        edit = await call(client, "bfl_start_image", prompt="both", image_urls=[one, two])
        tryon = await call(
            client, "bfl_start_tryon", model_image_url=one, garment_image_url=two, seed=1
        )
        jobs = [await ended(client, each) for each in (edit, tryon)]
    assert [job["status"] for job in jobs] == ["completed"] * 2
    bodies = [json.loads(e.body) for e in emulator(server).requests if e.operation == "submit"]
    assert bodies[0] == {"prompt": "both", "input_image": one, "input_image_2": two}
    assert bodies[1]["person"] == one
    assert bodies[1]["prompt"].startswith("TRY-ON")
    assert tryon["cost"] == {"amount": 6, "unit": "credits", "basis": "exact"}


async def test_a_moderated_job_is_blocked_and_costs_nothing(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = bfl(clock, tmp_path)
    async with server.client() as client:
        job = await ended(
            client, await call(client, "bfl_start_image", prompt=f"a {BLOCKED_TRIGGER}")
        )
    assert (job["status"], job["error"]["code"]) == ("blocked", "blocked_by_safety")
    assert "Derivative Works" in job["error"]["provider_message"]
    assert job["cost"] == {"amount": 0, "unit": "credits", "basis": "exact"}
    assert not emulator(server).charges


@pytest.mark.parametrize("status", [200, 422, 503])
async def test_the_word_counts_before_the_status_of_a_poll(
    clock: Callable[[], float], tmp_path: Path, status: int
) -> None:
    server = bfl(clock, tmp_path, switches={"error_status": status})
    async with server.client() as client:
        job = await ended(client, await call(client, "bfl_start_image", prompt=f"a {FAIL_TRIGGER}"))
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_error")
    assert job["error"]["provider_message"] == "Generation failed"


@pytest.mark.parametrize("word", ["Reasoning", "Generating", "Something new"])
async def test_an_unknown_word_is_taken_for_running(
    clock: Callable[[], float], tmp_path: Path, word: str
) -> None:
    server = bfl(clock, tmp_path, switches={"running_word": word})
    async with server.client() as client:
        job = await ended(client, await call(client, "bfl_start_image", prompt="a boat"))
    assert job["status"] == "completed"


async def test_a_task_that_is_not_found_is_looked_for_before_it_is_given_up(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = bfl(clock, tmp_path)
    async with server.client() as client:
        started = await call(client, "bfl_start_image", prompt="a boat")
        emulator(server).tasks.clear()
        job = await ended(client, started)
    polls = [each for each in emulator(server).requests if each.operation == "poll"]
    assert (job["status"], job["error"]["code"]) == ("failed", "not_found")
    assert len(polls) == 3


@pytest.mark.parametrize("shape", ["detail", "error"])
async def test_both_shapes_of_an_error_are_read(
    clock: Callable[[], float], tmp_path: Path, shape: str
) -> None:
    server = bfl(clock, tmp_path, switches={"credits": 1.0, "error_shape": shape})
    async with server.client() as client:
        text = await refused(client, "bfl_start_image", prompt="a boat")
    assert text.startswith("[insufficient_credits]")


async def test_tasks_beyond_the_active_ones_wait(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = bfl(clock, tmp_path, switches={"active_tasks": 1, "error_shape": "error"})
    async with server.client() as client:
        first = await call(client, "bfl_start_image", prompt="one")
        second = await call(client, "bfl_start_image", prompt="two")
        assert second["status"] == "queued"
        jobs = [await ended(client, each) for each in (first, second)]
    assert [job["status"] for job in jobs] == ["completed"] * 2


async def test_a_key_that_is_not_accepted_is_said_to_be_so(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = bfl(clock, tmp_path, environment={"BFL_API_KEY": "bfl_another_key_of_somebody"})
    async with server.client() as client:
        text = await refused(client, "bfl_get_credits")
    assert text.startswith("[auth_failed]")


async def test_sizes_that_flux_does_not_take_are_refused_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = bfl(clock, tmp_path)
    photo = server.sandbox.sample("model", 1)
    async with server.client() as client:
        text = await refused(client, "bfl_start_image", prompt="x", width=1000, height=4096)
        assert "width: expected a multiple of 16" in text
        text = await refused(client, "bfl_start_image", prompt="x", width=4096, height=4096)
        assert "4 megapixels" in text
        text = await refused(
            client,
            "bfl_start_image",
            prompt="x",
            model="flux-2-klein-4b",
            image_urls=[photo] * 5,
        )
        assert "at most 4 pictures" in text
    assert not emulator(server).requests


async def test_a_5xx_leaves_the_fate_unknown_and_is_not_sent_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = bfl(clock, tmp_path)
    emulator(server).faults.add("submit", Fault(kind="status_after", status=500))
    async with server.client() as client:
        first = await call(client, "bfl_start_image", prompt="a boat")
        again = await call(client, "bfl_start_image", prompt="a boat")
    assert first["status"] == "unknown"
    assert again["job_id"] == first["job_id"]
    assert len(emulator(server).charges) == 1


@pytest.mark.parametrize("said", ["-5", "1e300", "NaN", '"three"'])
async def test_a_cost_that_cannot_be_right_is_left_out_and_said(
    clock: Callable[[], float], tmp_path: Path, said: str
) -> None:
    server = bfl(clock, tmp_path)
    body = f'{{"id": "a-task", "cost": {said}}}'.encode()
    emulator(server).faults.add("submit", Fault(kind="status", status=200, body=body))
    async with server.client() as client:
        started = await call(client, "bfl_start_image", prompt="a lighthouse")
    assert started["cost"] == {"amount": 3, "unit": "credits", "basis": "estimate"}
    assert NOT_BELIEVED in started["warnings"]
