"""Replicate through the server: any model, outputs of any form, refusals that are no errors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.replicate.emulator import (
    BLOCKED_TRIGGER,
    EMPTY_TRIGGER,
    FAIL_TRIGGER,
    ReplicateEmulator,
)
from darkroom_tools.providers.replicate import MOST_OUTPUTS, Settings, Start, cost_of
from tests.harness import Fields, Rig, call, refused, rig
from tests.snapshots import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp import Client

pytestmark = pytest.mark.anyio

SCHNELL = "black-forest-labs/flux-schnell"


def replicate(clock: Callable[[], float], folder: Path, **more: Any) -> Rig:
    switches = {"replicate": more.pop("switches", {})}
    return rig(clock, folder, catalogue=EVERYTHING, switches=switches, **more)


def emulator(server: Rig) -> ReplicateEmulator:
    return cast("ReplicateEmulator", server.sandbox.emulators["replicate"])


async def start(client: Client, prompt: str, model: str = SCHNELL, **more: object) -> Fields:
    return await call(client, "replicate_start", model=model, input={"prompt": prompt, **more})


async def ended(client: Client, started: Fields) -> Fields:
    job: Fields = started
    while job["status"] in {"queued", "running"}:
        job = await call(client, "replicate_check_job", job_id=started["job_id"], wait_seconds=40)
    return job


async def test_an_official_model_is_run_and_every_output_saved(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = replicate(clock, tmp_path)
    async with server.client() as client:
        started = await start(client, "a lighthouse", num_outputs=2)
        assert started["cost"] == {"amount": 0.006, "unit": "usd", "basis": "estimate"}
        job = await ended(client, started)
    assert job["status"] == "completed"
    assert len([output["file"] for output in job["outputs"]]) == 2
    (asked,) = [e for e in emulator(server).requests if e.operation == "create_official"]
    assert asked.path == f"/v1/models/{SCHNELL}/predictions"
    assert json.loads(asked.body) == {"input": {"prompt": "a lighthouse", "num_outputs": 2}}


@pytest.mark.parametrize("model", ["a" * 64, f"cuuupid/idm-vton:{'0' * 64}"])
async def test_a_community_model_is_run_by_its_version(
    clock: Callable[[], float], tmp_path: Path, model: str
) -> None:
    server = replicate(clock, tmp_path, switches={"created_status": 202})
    async with server.client() as client:
        job = await ended(client, await start(client, "a boat", model=model))
    assert job["status"] == "completed"
    (asked,) = [each for each in emulator(server).requests if each.operation == "create"]
    assert json.loads(asked.body)["version"] == model.rpartition(":")[2]


@pytest.mark.parametrize(
    ("model", "shape"),
    [("black-forest-labs/flux-1.1-pro", "declared"), (SCHNELL, "declared"), (SCHNELL, "object")],
)
async def test_an_output_is_found_whatever_its_form(
    clock: Callable[[], float], tmp_path: Path, model: str, shape: str
) -> None:
    server = replicate(clock, tmp_path, switches={"output_shape": shape})
    async with server.client() as client:
        job = await ended(client, await start(client, "a boat", model=model))
    assert job["status"] == "completed"
    assert len(job["outputs"]) == 1


@pytest.mark.parametrize(
    ("trigger", "status", "code", "retryable"),
    [
        (BLOCKED_TRIGGER, "blocked", "blocked_by_safety", False),
        (EMPTY_TRIGGER, "blocked", "blocked_by_safety", False),
        (FAIL_TRIGGER, "failed", "provider_unavailable", True),
    ],
)
async def test_a_refusal_that_is_no_error_is_told_as_one(
    clock: Callable[[], float],
    tmp_path: Path,
    trigger: str,
    status: str,
    code: str,
    retryable: bool,  # noqa: FBT001 -- a parameter of the table
) -> None:
    server = replicate(clock, tmp_path)
    async with server.client() as client:
        job = await ended(client, await start(client, f"a {trigger}"))
    assert (job["status"], job["error"]["code"]) == (status, code)
    assert job["error"]["retryable"] is retryable
    assert job["cost"]["basis"] == "unknown"


@pytest.mark.parametrize("header", [True, False])
async def test_a_throttled_prediction_waits_as_long_as_it_was_told(
    clock: Callable[[], float],
    tmp_path: Path,
    header: bool,  # noqa: FBT001 -- a parameter of the table
) -> None:
    switches = {"created_per_minute": 1, "retry_after": header}
    server = replicate(clock, tmp_path, switches=switches)
    async with server.client() as client:
        first = await start(client, "one")
        second = await start(client, "two")
        assert (second["status"], second["queued_for"]) == ("queued", "pacing")
        jobs = [await ended(client, each) for each in (first, second)]
    created = [e for e in emulator(server).requests if e.operation == "create_official"]
    assert [job["status"] for job in jobs] == ["completed"] * 2
    assert [each.status for each in created] == [201, 429, 201]


@pytest.mark.parametrize("model", ["flux", "../x/y", "a/b/c", "a/b:short", "a/..", "a/b?x=1"])
async def test_what_is_no_model_is_refused_before_anything_is_sent(
    clock: Callable[[], float], tmp_path: Path, model: str
) -> None:
    server = replicate(clock, tmp_path)
    async with server.client() as client:
        text = await refused(client, "replicate_start", model=model, input={"prompt": "x"})
    assert text.startswith("[invalid_argument]")
    assert not emulator(server).requests


async def test_a_prediction_is_cancelled(clock: Callable[[], float], tmp_path: Path) -> None:
    server = replicate(clock, tmp_path)
    async with server.client() as client:
        started = await start(client, "a boat")
        said = await call(client, "replicate_cancel", job_id=started["job_id"])
        job = await ended(client, started)
    assert said["provider_status"] in {"canceled", "aborted"}
    assert job["status"] == "cancelled"


async def test_a_lost_answer_is_unknown_and_the_prediction_is_named_as_evidence(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = replicate(clock, tmp_path)
    emulator(server).faults.add("create_official", Fault(kind="drop_after"))
    async with server.client() as client:
        first = await start(client, "a boat")
        assert first["status"] == "unknown"
        await anyio.sleep(5)  # of the virtual clock: the list is asked for after two
        job = await call(client, "replicate_check_job", job_id=first["job_id"])
        again = await start(client, "a boat")
    assert job["evidence"]["candidates"] == list(emulator(server).predictions)
    assert again["job_id"] == first["job_id"]
    assert len(emulator(server).charges) == 1


async def test_without_credit_it_is_said(clock: Callable[[], float], tmp_path: Path) -> None:
    server = replicate(clock, tmp_path, switches={"no_credit": True})
    async with server.client() as client:
        text = await refused(client, "replicate_start", model=SCHNELL, input={"prompt": "a boat"})
    assert text.startswith("[insufficient_credits]")


def test_more_outputs_than_are_expected_are_not_counted_as_one() -> None:
    params = Start(model=SCHNELL, input={"prompt": "x", "num_outputs": 9999})
    assert cost_of(params, Settings(prices={SCHNELL: 1.0})).amount == MOST_OUTPUTS
