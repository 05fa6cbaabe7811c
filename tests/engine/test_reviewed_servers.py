"""What a review found between servers on one journal: races, takeovers, news of each other."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.jobs.model import LOCAL_OWNER
from darkroom.providers.credentials import fingerprint
from darkroom_tools.emulators.kit import Fault
from tests.engine.servers import (
    asked_of,
    servers,
    wait_until,
    yields_at_every_access,
)
from tests.engine.support import HOUR, TRYON, until
from tests.faults.process import Process, process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anyio.abc import TaskGroup

    from darkroom_tools.emulators.sandbox import Sandbox
    from tests.harness import Fields

pytestmark = pytest.mark.anyio


async def killed_in_a_call(one: Process, sandbox: Sandbox, tasks: TaskGroup) -> Fields:
    """Kill a server while a call that changes something is under way; return its job."""
    sandbox.emulators["zupertry"].faults.add("submit", Fault(kind="never_finish"))
    job = await one.call(TRYON.start, **TRYON.arguments)
    sandbox.emulators["zupertry"].faults.add("cancel", Fault(kind="hang_after"))
    before = len(asked_of(sandbox, "cancel"))

    async def cancel() -> None:
        await one.said("zupertry_cancel_tryon", job_id=job["job_id"])

    tasks.start_soon(cancel)
    await until(lambda: len(asked_of(sandbox, "cancel")) > before, every=0.1)
    await one.kill()
    return job


async def test_two_servers_that_start_together_take_up_what_a_third_one_left(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with servers(clock, tmp_path, 1) as ((first,), sandbox, tasks):
        await killed_in_a_call(first, sandbox, tasks)
        yields_at_every_access(monkeypatch)
        both = [process(sandbox, tmp_path, clock, seed=n) for n in (5, 6)]
        for one in both:
            one.begin(tasks)
        for one in both:
            assert len((await one.call("list_jobs"))["jobs"]) == 1
            await one.stop()


async def test_calls_that_find_a_dead_server_together_all_get_its_job(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    async with servers(clock, tmp_path) as ((first, second), sandbox, tasks):
        job = await killed_in_a_call(first, sandbox, tasks)
        yields_at_every_access(monkeypatch)

        async def check() -> None:
            found = await second.call(TRYON.check, job_id=job["job_id"], wait_seconds=0)
            said.append(found["status"])

        async with anyio.create_task_group() as calls:
            for _ in range(4):
                calls.start_soon(check)
    assert said == ["running"] * 4


async def test_files_that_another_server_downloads_show_in_a_later_check(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path, DARKROOM_RESULTS__DOWNLOAD="always") as (
        (first, second), sandbox, _,
    ):  # fmt: skip
        sandbox.emulators["zsky"].faults.add("download", Fault(kind="delay", seconds=5))
        job = await first.call("zsky_start_image", prompt="seen by two")
        at_once = {"job_id": job["job_id"], "wait_seconds": 0}
        await wait_until(second, "zsky_check_job", "completed", **at_once)
        await anyio.sleep(60)
        assert "file" in (await first.call("zsky_check_job", job_id=job["job_id"]))["outputs"][0]
        later = await second.call("zsky_check_job", job_id=job["job_id"])
        assert "file" in later["outputs"][0]


async def test_a_job_that_another_server_retries_no_longer_shows_as_failed(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as ((first, second), sandbox, _):
        zsky = sandbox.emulators["zsky"]
        zsky.faults.add("generate_image", Fault(kind="refuse"), times=3)
        batch = await first.call(
            "start_batch", tool="zsky_start_image", arguments={"prompt": "again"}
        )
        await wait_until(first, "check_batch", "completed", batch_id=batch["batch_id"])
        (job,) = (await first.call("list_jobs", provider="zsky"))["jobs"]
        assert (await first.call("zsky_check_job", job_id=job["job_id"]))["status"] == "failed"
        assert (await second.call("retry_batch", batch_id=batch["batch_id"]))["retried"] == 1
        await wait_until(second, "zsky_check_job", "completed", job_id=job["job_id"])
        shown = await first.call("zsky_check_job", job_id=job["job_id"], wait_seconds=0)
        assert shown["status"] == "completed"


@pytest.mark.parametrize("how", ["cancelled", "settled"])
async def test_a_job_goes_on_when_another_server_ends_what_it_waits_for(
    clock: Callable[[], float], tmp_path: Path, how: str
) -> None:
    async with servers(clock, tmp_path) as ((first, second), sandbox, _):
        fault = Fault(kind="never_finish" if how == "cancelled" else "drop_before")
        sandbox.emulators["zupertry"].faults.add("submit", fault)
        source = (await first.call(TRYON.start, **TRYON.arguments))["job_id"]
        edit = {"input": f"job:{source}", "operations": {"resizing": {"width": 64}}}
        waiting = await first.call("claid_start_image_edit", **edit)
        assert waiting["queued_for"] == "input"
        if how == "cancelled":
            await second.call("zupertry_cancel_tryon", job_id=source)
        else:
            await second.call("resolve_job", job_id=source, outcome="not_submitted")
        await anyio.sleep(120)
        check = "claid_check_image_edit"
        shown = await first.call(check, job_id=waiting["job_id"], wait_seconds=0)
        assert (shown["status"], shown["error"]["code"]) == ("cancelled", "input_failed")


async def test_a_batch_of_a_dead_server_goes_on_where_it_is_looked_at(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as ((first, second), sandbox, _):
        batch = await first.call(
            "start_batch",
            tool="zsky_start_image",
            for_each={"prompt": [f"harbour {n}" for n in range(6)]},
        )
        await anyio.sleep(1)
        await first.kill()
        with anyio.fail_after(2 * HOUR):
            report = await wait_until(
                second, "check_batch", "completed", batch_id=batch["batch_id"]
            )
        fates = report["counts"]
        assert fates.get("completed", 0) + fates.get("unknown", 0) == 6
        assert len(sandbox.emulators["zsky"].charges) == 6


async def test_slots_of_a_dead_server_come_free_where_a_job_waits_for_one(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as ((first, second), _, _tasks):
        for number in range(3):
            await first.call("zsky_start_image", prompt=f"left {number}")
        await first.kill()
        job = await second.call("zsky_start_image", prompt="mine")
        with anyio.fail_after(300):
            await wait_until(second, "zsky_check_job", "completed", job_id=job["job_id"])


async def test_watching_jobs_of_another_server_leaves_nothing_behind(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as ((first, second), sandbox, _):
        sandbox.emulators["zupertry"].faults.add("submit", Fault(kind="never_finish"))
        job = await first.call(TRYON.start, **TRYON.arguments)
        await second.call(TRYON.check, job_id=job["job_id"], wait_seconds=30)
        assert len((await second.engine.runtime()).context.registry) == 0


def test_another_configuration_of_the_limits_does_not_take_the_memory_from_a_running_server(
    tmp_path: Path,
) -> None:
    program = """
import sys
from pathlib import Path
from darkroom.providers.provider import Limits, Rate
from darkroom.providers.client.shared_limits import SharedLimits
path = Path(sys.argv[1])
many = SharedLimits(path, Limits(rates=(Rate(1_000, 60.0),), concurrent_jobs=3))
few = SharedLimits(path, Limits(rates=(Rate(10, 60.0),), concurrent_jobs=3))
assert all(many.take() is not None for _ in range(1_000))
assert many.occupy("job", 60) and few.release("job")
print(many.delay() > 0, few.delay() > 0)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "zyng.lane")],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["True", "True"]


async def test_an_answer_that_comes_after_the_job_was_taken_over_is_merged(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as ((first, second), sandbox, tasks):
        slow = Fault(kind="delay", seconds=20)
        sandbox.emulators["zsky"].faults.add("generate_image", slow)
        tasks.start_soon(partial(first.said, "zsky_start_image", prompt="slow"))
        await anyio.sleep(5)
        for path in (tmp_path / "state" / "holders").glob("*.lock"):
            path.unlink()  # somebody tidied up: now nobody seems to be alive
        (job,) = (await second.call("list_jobs"))["jobs"]
        taken = await second.call("zsky_check_job", job_id=job["job_id"], wait_seconds=0)
        assert taken["status"] == "unknown"
        for one in (second, first):
            ended = await wait_until(one, "zsky_check_job", "completed", job_id=job["job_id"])
            assert "error" not in ended
        (attempt,) = await (await first.store()).attempts(LOCAL_OWNER, job["job_id"])
        assert attempt.state == "accepted"
        assert len(sandbox.emulators["zsky"].charges) == 1


async def test_a_slot_is_free_again_for_others_when_a_stopping_server_leaves_a_job_queued(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as ((first, second), sandbox, tasks):
        sandbox.emulators["zupertry"].faults.add("submit", Fault(kind="delay", seconds=9.5))
        jobs = [await first.call("zsky_start_image", prompt=f"number {n}") for n in range(4)]
        assert jobs[-1]["queued_for"] == "slot"
        tasks.start_soon(partial(first.said, TRYON.start, **TRYON.arguments))
        await anyio.sleep(1)
        await first.stop()  # it waits for the try-on; meanwhile the images end, and slots come free
        asked_for = len(asked_of(sandbox, "generate_image", "zsky"))
        assert asked_for == 3
        runtime = await second.engine.runtime()
        limiter = runtime.context.clients["zsky"].limiter(
            fingerprint(second.environment["ZSKY_API_KEY"])
        )
        for number in range(3):
            assert limiter.slot_free(f"mine {number}")
            limiter.occupy(f"mine {number}")
