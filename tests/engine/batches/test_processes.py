"""Batches across kills and between servers that share a state directory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.sandbox import Sandbox
from tests.engine.batches.support import prompts
from tests.engine.support import most_in_a_window
from tests.faults.process import Process, process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.harness import Fields

pytestmark = pytest.mark.anyio


def charged(sandbox: Sandbox) -> float:
    return sum(charge.amount for charge in sandbox.emulators["zsky"].charges)


async def until_ended(server: Process, job_id: object) -> None:
    with anyio.fail_after(3_600):
        while (await server.call("zsky_check_job", job_id=job_id))["status"] != "completed":
            pass


async def until_done(server: Process, batch_id: object) -> Fields:
    with anyio.fail_after(3_600):
        while True:
            report = await server.call("check_batch", batch_id=batch_id, wait_seconds=40)
            if report["status"] != "running":
                return report


@pytest.mark.parametrize("after", [0.0, 7.0, 65.0])
async def test_a_killed_server_s_batch_is_finished_by_the_next(
    clock: Callable[[], float], tmp_path: Path, after: float
) -> None:
    sandbox = Sandbox(clock=clock)
    first = process(sandbox, tmp_path, clock)
    second = process(sandbox, tmp_path, clock, seed=1)
    ended: Fields = {}
    async with anyio.create_task_group() as tasks:
        first.begin(tasks)
        started = await first.call("start_batch", **prompts(30))
        await anyio.sleep(after)
        await first.kill()
        second.begin(tasks)
        ended |= await until_done(second, started["batch_id"])
        await second.stop()
    counts = Counter[str](ended["counts"])
    assert counts["unknown"] <= 3, "at most what was under way"
    assert counts["completed"] + counts["unknown"] == 30
    assert charged(sandbox) == 30
    assert most_in_a_window(sandbox.emulators["zsky"]) <= 20


async def test_two_servers_answer_for_one_batch_and_keep_the_rate_together(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock)
    first = process(sandbox, tmp_path, clock)
    second = process(sandbox, tmp_path, clock, seed=1)
    async with anyio.create_task_group() as tasks:
        first.begin(tasks)
        second.begin(tasks)
        one = await first.call("start_batch", **prompts(20, "Harbour"))
        two = await second.call("start_batch", **prompts(20, "Forest"))
        seen = await second.call("check_batch", batch_id=one["batch_id"], wait_seconds=40)
        assert seen["counts"].get("completed", 0) > 0, "it was told while the other worked"
        for batch, server in ((one, second), (two, first)):
            ended = await until_done(server, batch["batch_id"])
            assert ended["counts"] == {"completed": 20}
        await first.stop()
        await second.stop()
    emulator = sandbox.emulators["zsky"]
    assert charged(sandbox) == 40
    assert most_in_a_window(emulator) <= 20
    assert all(each.status != 429 for each in emulator.requests)


@pytest.mark.parametrize("operation", ["generate_image", "get_job", "usage"])
async def test_a_429_that_one_server_meets_holds_the_other_too(
    clock: Callable[[], float], tmp_path: Path, operation: str
) -> None:
    sandbox = Sandbox(clock=clock)
    emulator = sandbox.emulators["zsky"]
    first = process(sandbox, tmp_path, clock)
    second = process(sandbox, tmp_path, clock, seed=1)
    async with anyio.create_task_group() as tasks:
        first.begin(tasks)
        second.begin(tasks)
        busy = await second.call("start_batch", **prompts(12, "Harbour"))
        await anyio.sleep(20)
        emulator.faults.add(operation, Fault(kind="status", status=429, retry_after="25"))
        if operation == "usage":
            _, code = await first.said("zsky_get_usage")
            assert code == "rate_limited"
        else:
            job = await first.call("zsky_start_image", prompt="Forest")
            await until_ended(first, job["job_id"])
        ended = await until_done(second, busy["batch_id"])
        assert ended["counts"] == {"completed": 12}
        await first.stop()
        await second.stop()
    (met,) = [each for each in emulator.requests if each.status == 429]
    asked = [each.at for each in emulator.requests if each.operation != "download"]
    assert min(at for at in asked if at > met.at) >= met.at + 25
    assert charged(sandbox) == 12 + (operation != "usage")


async def test_a_dead_servers_hold_ends_when_it_said(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock)
    emulator = sandbox.emulators["zsky"]
    first = process(sandbox, tmp_path, clock)
    second = process(sandbox, tmp_path, clock, seed=1)
    async with anyio.create_task_group() as tasks:
        first.begin(tasks)
        emulator.faults.add("usage", Fault(kind="status", status=429, retry_after="300"))
        _, code = await first.said("zsky_get_usage")
        assert code == "rate_limited"
        await first.kill()
        second.begin(tasks)
        began = clock()
        _, code = await second.said("zsky_get_usage")
        assert code == "rate_limited"
        assert clock() - began < 10, "nobody waits for what will not come in time"
        job = await second.call("zsky_start_image", prompt="Forest")
        assert job["queued_for"] == "pacing"
        await until_ended(second, job["job_id"])
        await second.stop()
    (met,) = [each.at for each in emulator.requests if each.status == 429]
    (sent,) = [each.at for each in emulator.requests if each.operation == "generate_image"]
    assert met + 300 <= sent <= met + 310


async def test_a_server_takes_over_the_batch_of_one_that_was_killed_beside_it(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock)
    first = process(sandbox, tmp_path, clock)
    second = process(sandbox, tmp_path, clock, seed=1)
    ended: Fields = {}
    async with anyio.create_task_group() as tasks:
        first.begin(tasks)
        second.begin(tasks)
        started = await first.call("start_batch", **prompts(12))
        await second.call("check_batch", batch_id=started["batch_id"], wait_seconds=0)
        await anyio.sleep(30)
        await first.kill()
        ended |= await until_done(second, started["batch_id"])
        await second.stop()
    counts = Counter[str](ended["counts"])
    assert counts.total() == 12
    assert counts["completed"] >= 9
    assert charged(sandbox) == 12
