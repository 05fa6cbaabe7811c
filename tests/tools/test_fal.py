"""fal through the server: the queue, its two-step results, and its two kinds of failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
from pydantic import ValidationError

from darkroom_tools.emulators.fal.emulator import (
    BLACK_TRIGGER,
    BLOCKED_TRIGGER,
    FAIL_TRIGGER,
    FalEmulator,
)
from darkroom_tools.emulators.kit import Fault
from darkroom_tools.providers.fal.arguments import StartAny
from darkroom_tools.providers.fal.provider import Settings, any_cost
from tests.harness import Fields, Rig, call, refused, rig
from tests.snapshots import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp import Client

pytestmark = pytest.mark.anyio


def fal(clock: Callable[[], float], folder: Path, **more: Any) -> Rig:
    switches = {"fal": more.pop("switches", {})}
    return rig(clock, folder, catalogue=EVERYTHING, switches=switches, **more)


def emulator(server: Rig) -> FalEmulator:
    return cast("FalEmulator", server.sandbox.emulators["fal"])


async def ended(client: Client, started: Fields) -> Fields:
    job: Fields = started
    while job["status"] in {"queued", "running"}:
        job = await call(client, "fal_check_job", job_id=started["job_id"], wait_seconds=40)
    return job


def body_of(server: Rig) -> Fields:
    (asked,) = [each for each in emulator(server).requests if each.operation == "submit"]
    return json.loads(asked.body)


async def test_a_picture_is_submitted_followed_by_its_addresses_and_saved(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path)
    async with server.client() as client:
        started = await call(
            client, "fal_start_image", prompt="a lighthouse", image_size="640x480", seed=3
        )
        assert started["status"] == "running"
        assert started["cost"] == {"amount": 0.025, "unit": "usd", "basis": "estimate"}
        job = await ended(client, started)
    assert job["status"] == "completed"
    assert job["provider_status"] == "COMPLETED"
    assert job["outputs"][0]["width"] == 640
    assert "url" not in job["outputs"][0]
    assert job["details"]["seed"] == 3
    assert body_of(server) == {
        "prompt": "a lighthouse",
        "seed": 3,
        "image_size": {"width": 640, "height": 480},
    }
    paths = [each.path for each in emulator(server).requests]
    assert paths[0] == "/fal-ai/flux/dev"
    assert all(path.startswith("/fal-ai/flux/requests/") for path in paths[1:-1])


async def test_the_place_in_the_queue_is_shown_while_a_job_waits(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path, switches={"concurrent_jobs": 1})
    async with server.client() as client:
        first, second, third = [
            await call(client, "fal_start_image", prompt=f"picture {number}") for number in range(3)
        ]
        assert third["details"] == {"queue_position": 1}
        jobs = [await ended(client, each) for each in (first, second, third)]
    assert [job["status"] for job in jobs] == ["completed"] * 3
    assert all("queue_position" not in job["details"] for job in jobs)


@pytest.mark.parametrize("where", ["status", "result"])
@pytest.mark.parametrize(
    ("trigger", "status", "code", "retryable"),
    [
        (BLOCKED_TRIGGER, "blocked", "blocked_by_safety", False),
        (FAIL_TRIGGER, "failed", "provider_error", True),
    ],
)
async def test_a_failure_is_read_wherever_fal_shows_it(
    clock: Callable[[], float],
    tmp_path: Path,
    where: str,
    trigger: str,
    status: str,
    code: str,
    retryable: bool,  # noqa: FBT001 -- a parameter of the table
) -> None:
    server = fal(clock, tmp_path, switches={"failure": where})
    async with server.client() as client:
        started = await call(client, "fal_start_image", prompt=f"a {trigger}")
        job = await ended(client, started)
    assert job["status"] == status
    assert job["error"]["code"] == code
    assert job["error"]["retryable"] is retryable
    assert job["cost"]["basis"] == "unknown"


async def test_a_blackened_picture_is_blocked_and_not_handed_out(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path)
    async with server.client() as client:
        started = await call(client, "fal_start_image", prompt=f"a {BLACK_TRIGGER}")
        job = await ended(client, started)
    assert (job["status"], job["error"]["code"]) == ("blocked", "blocked_by_safety")
    assert "outputs" not in job
    assert not [each for each in emulator(server).requests if each.operation == "download"]


@pytest.mark.parametrize("switches", [{"wraps_result": True}, {"running_status": 200}])
async def test_older_forms_of_an_answer_are_read(
    clock: Callable[[], float], tmp_path: Path, switches: Fields
) -> None:
    server = fal(clock, tmp_path, switches=switches)
    async with server.client() as client:
        job = await ended(client, await call(client, "fal_start_image", prompt="a boat"))
    assert job["status"] == "completed"


async def test_an_address_on_another_host_is_not_asked_and_the_job_is_followed_all_the_same(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path, switches={"foreign_addresses": "https://elsewhere.example"})
    async with server.client() as client:
        started = await call(client, "fal_start_image", prompt="a boat")
        assert "not its own" in started["warnings"][0]
        job = await ended(client, started)
    assert job["status"] == "completed"


async def test_any_model_takes_its_own_input_unchanged(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path)
    given = {"prompt": "a tower", "loras": [{"path": "x", "scale": 0.5}], "style": None}
    async with server.client() as client:
        started = await call(client, "fal_start", model="fal-ai/recraft/v3/text", input=given)
        assert started["cost"] == {"amount": 0.1, "unit": "usd", "basis": "unknown"}
        job = await ended(client, started)
    assert job["status"] == "completed"
    assert body_of(server) == given


@pytest.mark.parametrize(
    ("asked", "outputs"),
    [({}, 1), ({"num_images": 4}, 4), ({"num_samples": 0}, 1), ({"num_images": 9999}, 50)],
)
def test_any_model_counts_as_many_outputs_as_its_input_asks_for(
    asked: Fields, outputs: int
) -> None:
    params = StartAny(model="fal-ai/flux/dev", input={"prompt": "x", **asked})
    cost = any_cost(params, Settings(prices={"fal-ai/flux/dev": 1.0}))
    assert (cost.amount, cost.basis) == (outputs, "estimate")


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_that_would_disable_a_cap_is_refused(price: float) -> None:
    with pytest.raises(ValidationError):
        Settings(prices={"fal-ai/flux/dev": price})
    with pytest.raises(ValidationError):
        Settings(assumed_price=price)


async def test_a_model_cannot_lead_to_another_path(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path)
    async with server.client() as client:
        for model in ("../admin", "fal-ai/../../x", "fal-ai/flux?x=1", "flux", "fal-ai//x"):
            text = await refused(client, "fal_start", model=model, input={"prompt": "x"})
            assert text.startswith("[invalid_argument]"), model
    assert not emulator(server).requests


async def test_edits_try_ons_and_videos_are_sent_as_their_models_take_them(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path, time_scale=0.01)
    person, cloth = server.sandbox.sample("model", 1), server.sandbox.sample("garment", 1)
    async with server.client() as client:
        edit = await call(
            client,
            "fal_start_edit",
            prompt="at night",
            image_urls=[person],
            model="fal-ai/flux-pro/kontext",
        )
        tryon = await call(
            client,
            "fal_start_tryon",
            model_image_url=person,
            garment_image_url=cloth,
            category="tops",
        )
        video = await call(client, "fal_start_video", prompt="waves", image_url=person, duration=5)
        jobs = [await ended(client, each) for each in (edit, tryon, video)]
    assert [job["status"] for job in jobs] == ["completed"] * 3
    bodies = [json.loads(e.body) for e in emulator(server).requests if e.operation == "submit"]
    assert bodies == [
        {"prompt": "at night", "image_url": person},
        {"category": "tops", "model_image": person, "garment_image": cloth},
        {"prompt": "waves", "image_url": person, "duration": "5"},
    ]
    assert jobs[2]["outputs"][0]["media_type"] == "video/webm"


async def test_what_a_model_does_not_take_is_refused_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path)
    photo = server.sandbox.sample("model", 1)
    async with server.client() as client:
        assert "takes one picture" in await refused(
            client,
            "fal_start_edit",
            prompt="x",
            image_urls=[photo, photo],
            model="fal-ai/flux-pro/kontext",
        )
        assert "5, 10 seconds" in await refused(
            client, "fal_start_video", prompt="x", image_url=photo, duration=7
        )
        assert "image_size" in await refused(
            client, "fal_start_image", prompt="x", image_size="big"
        )
    assert not emulator(server).requests


async def test_a_waiting_job_is_cancelled_at_its_address_and_the_end_is_seen(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path, switches={"concurrent_jobs": 1})
    async with server.client() as client:
        first = await call(client, "fal_start_image", prompt="one")
        second = await call(client, "fal_start_image", prompt="two")
        said = await call(client, "fal_cancel", job_id=second["job_id"])
        assert said["asked"] is True
        assert (await ended(client, second))["status"] == "cancelled"
        await ended(client, first)
        late = await call(client, "fal_cancel", job_id=first["job_id"])
    assert late == {
        "job_id": first["job_id"],
        "asked": False,
        "provider_status": "ALREADY_COMPLETED",
    }


async def test_a_job_started_elsewhere_needs_its_model(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path)
    async with server.client() as client:
        started = await call(client, "fal_start_image", prompt="a boat")
    other = fal(clock, tmp_path / "other", sandbox=server.sandbox)
    async with other.client() as client:
        request_id = started["provider_job_id"]
        assert "model: needed" in await refused(client, "fal_check_job", job_id=request_id)
        job = await call(
            client, "fal_check_job", job_id=request_id, model="fal-ai/flux/dev", wait_seconds=40
        )
    assert job["status"] == "completed"


async def test_a_lost_answer_is_unknown_and_is_not_sent_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path)
    emulator(server).faults.add("submit", Fault(kind="drop_after"))
    async with server.client() as client:
        first = await call(client, "fal_start_image", prompt="a boat")
        again = await call(client, "fal_start_image", prompt="a boat")
    assert first["status"] == "unknown"
    assert again["job_id"] == first["job_id"]
    assert len(emulator(server).charges) == 1


async def test_an_account_without_credit_waits_or_is_refused_as_such(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path, switches={"locked": True})
    async with server.client() as client:
        text = await refused(client, "fal_start_image", prompt="a boat")
    assert text.startswith("[insufficient_credits]")


async def test_a_result_that_cannot_be_fetched_yet_is_asked_for_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path)
    emulator(server).faults.add("result", Fault(kind="status", status=502), times=2)
    async with server.client() as client:
        job = await ended(client, await call(client, "fal_start_image", prompt="a boat"))
    assert job["status"] == "completed"


async def test_addresses_of_a_job_survive_a_restart(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = fal(clock, tmp_path, store="sqlite")
    async with server.client() as client:
        started = await call(client, "fal_start", model="fal-ai/recraft/v3", input={"prompt": "x"})
    again = fal(clock, tmp_path, store="sqlite", sandbox=server.sandbox)
    async with again.client() as client:
        job = await ended(client, started)
    assert job["status"] == "completed"
    assert "/requests/" not in json.dumps(job)
