"""One intent between servers: what a dead, a stopped or a slow one sent is never sent again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from darkroom_tools.emulators.sandbox import Sandbox
from tests.engine.batches.support import prompts
from tests.engine.servers import asked_of, servers
from tests.engine.support import HOUR, IMAGE, TRYON, Paid, received, until
from tests.faults.process import Process, process
from tests.harness import call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Literal

    from anyio.abc import TaskGroup

pytestmark = pytest.mark.anyio

PAID = pytest.mark.parametrize("paid", [IMAGE, TRYON], ids=str)
STORES = pytest.mark.parametrize("store", ["memory", "sqlite"])
WINDOW = 120


async def sends(one: Process, sandbox: Sandbox, tasks: TaskGroup, paid: Paid, fault: Fault) -> None:
    """Let a server send a paid request that this fault meets; return while it is on its way."""
    sandbox.emulators[paid.emulator].faults.add(paid.submit, fault)
    tasks.start_soon(partial(one.said, paid.start, **paid.arguments))
    await until(lambda: asked_of(sandbox, paid.submit, paid.emulator), every=0.1)
    await anyio.sleep(1)


@PAID
@pytest.mark.parametrize("window", ["0", "120"])
@pytest.mark.parametrize("later", [0, WINDOW + 5, 30 * HOUR])
async def test_what_a_killed_server_was_sending_is_not_sent_again_by_one_that_lived_beside_it(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, window: str, later: float
) -> None:
    setting = {"DARKROOM_JOBS__IDENTICAL_WINDOW_SECONDS": window}
    async with servers(clock, tmp_path, 2, **setting) as ((one, two), sandbox, tasks):
        await sends(one, sandbox, tasks, paid, Fault(kind="hang_after"))
        await one.kill()
        await anyio.sleep(later)
        again = await two.call(paid.start, **paid.arguments)
        (listed,) = (await two.call("list_jobs"))["jobs"]
        assert len(asked_of(sandbox, paid.submit, paid.emulator)) == 1
    assert again["status"] == "unknown"
    assert "not sent again" in " ".join(again["warnings"])
    assert listed["job_id"] == again["job_id"]


@PAID
@pytest.mark.parametrize("status", [None, "unknown"])
async def test_the_jobs_of_a_dead_server_are_taken_over_before_anything_is_listed(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, status: str | None
) -> None:
    async with servers(clock, tmp_path) as ((one, two), sandbox, tasks):
        await sends(one, sandbox, tasks, paid, Fault(kind="hang_after"))
        (listed,) = (await two.call("list_jobs"))["jobs"]
        assert listed["status"] == "running", "its server lives"
        await one.kill()
        (listed,) = (await two.call("list_jobs", **({"status": status} if status else {})))["jobs"]
    assert listed["status"] == "unknown"
    assert "stopped" in listed["evidence"]["what_happened"]


async def test_what_a_killed_server_had_not_sent_is_sent_once_by_the_one_that_is_asked_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with servers(clock, tmp_path) as ((one, two), sandbox, _):
        zsky = sandbox.emulators["zsky"]
        zsky.faults.add("generate_image", Fault(kind="status", status=429, retry_after="40"))
        first = await one.call(IMAGE.start, **IMAGE.arguments)
        assert first["status"] == "queued"
        await one.kill()
        await anyio.sleep(WINDOW + 5)
        again = await two.call(IMAGE.start, **IMAGE.arguments)
        assert again["job_id"] == first["job_id"]
        while (await two.call(IMAGE.check, job_id=first["job_id"]))["status"] != "completed":
            pass
        assert len(zsky.charges) == 1


@PAID
async def test_what_a_stopped_server_was_sending_is_not_sent_again(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process holds its lock, and does nothing: its deadline does not end the request."""
    monkeypatch.setattr("darkroom.providers.client.http.DEADLINE_SECONDS", 400.0)
    monkeypatch.setattr("darkroom.providers.client.http.READ_TIMEOUT_SECONDS", 400.0)
    async with servers(clock, tmp_path) as ((one, two), sandbox, tasks):
        await sends(one, sandbox, tasks, paid, Fault(kind="delay", seconds=300))
        for later in (50, WINDOW):
            await anyio.sleep(later)
            again = await two.call(paid.start, **paid.arguments)
            assert again["status"] == "running"
            assert "nothing new was started" in " ".join(again["warnings"])
        await anyio.sleep(HOUR)
        found = await two.call(paid.check, job_id=again["job_id"])
        assert found["status"] == "completed", "the answer came when the process went on"
        assert len(asked_of(sandbox, paid.submit, paid.emulator)) == 1


@PAID
@STORES
@pytest.mark.parametrize("window", ["10", "0"])
async def test_a_provider_that_is_slower_than_the_window_is_asked_once(
    clock: Callable[[], float],
    tmp_path: Path,
    paid: Paid,
    store: Literal["memory", "sqlite"],
    window: str,
) -> None:
    setting = {"DARKROOM_JOBS__IDENTICAL_WINDOW_SECONDS": window}
    dependencies = rig(clock, tmp_path, store=store, environment=setting)
    dependencies.sandbox.emulators[paid.emulator].faults.add(
        paid.submit, Fault(kind="delay", seconds=22)
    )
    said: list[Any] = []
    async with dependencies.client() as client:

        async def start() -> None:
            said.append(await call(client, paid.start, **paid.arguments))

        with anyio.fail_after(HOUR):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(start)
                await anyio.sleep(15)
                await start()
    assert said[0]["job_id"] == said[1]["job_id"]
    assert received(dependencies, paid) == 1


@PAID
@STORES
async def test_the_window_counts_from_the_end_of_a_job(
    clock: Callable[[], float], tmp_path: Path, paid: Paid, store: Literal["memory", "sqlite"]
) -> None:
    dependencies = rig(
        clock, tmp_path, store=store, environment={"DARKROOM_RESULTS__DOWNLOAD": "never"}
    )
    emulator = dependencies.sandbox.emulators[paid.emulator]
    emulator.faults.add(paid.submit, Fault(kind="never_finish"))
    async with dependencies.client() as client:
        with anyio.fail_after(9 * HOUR):
            first = await call(client, paid.start, **paid.arguments)
            await anyio.sleep(2 * WINDOW)
            again = await call(client, paid.start, **paid.arguments)
    assert (again["job_id"], again["status"]) == (first["job_id"], "running")
    assert received(dependencies, paid) == 1


@STORES
async def test_a_batch_that_still_runs_is_not_started_again(
    clock: Callable[[], float], tmp_path: Path, store: Literal["memory", "sqlite"]
) -> None:
    dependencies = rig(
        clock, tmp_path, store=store, environment={"DARKROOM_RESULTS__DOWNLOAD": "never"}
    )
    async with dependencies.client() as client:
        with anyio.fail_after(9 * HOUR):
            first = await call(client, "start_batch", **prompts(60))
            asked = {"batch_id": first["batch_id"]}
            await anyio.sleep(WINDOW + 6)
            assert (await call(client, "check_batch", wait_seconds=0, **asked))[
                "status"
            ] == "running"
            again = await call(client, "start_batch", **prompts(60))
            while (await call(client, "check_batch", **asked))["status"] == "running":
                pass
            await anyio.sleep(WINDOW - 10)
            late = await call(client, "start_batch", **prompts(60))
            assert received(dependencies, IMAGE) == 60
            await anyio.sleep(20)
            new = await call(client, "start_batch", **prompts(60))
    assert again["batch_id"] == late["batch_id"] == first["batch_id"] != new["batch_id"]


@STORES
async def test_a_batch_with_an_item_of_unknown_fate_is_not_started_again(
    clock: Callable[[], float], tmp_path: Path, store: Literal["memory", "sqlite"]
) -> None:
    unasked = {"DARKROOM_APPROVAL__NEVER_ASK": '["resolve_job"]'}
    dependencies = rig(clock, tmp_path, store=store, environment=unasked)
    dependencies.sandbox.emulators["zsky"].faults.add("generate_image", Fault(kind="drop_after"))
    async with dependencies.client() as client:
        with anyio.fail_after(99 * HOUR):
            first = await call(client, "start_batch", **prompts(3))
            await anyio.sleep(30 * HOUR)
            again = await call(client, "start_batch", **prompts(3))
            assert again["batch_id"] == first["batch_id"]
            (lost,) = (await call(client, "list_jobs", status="unknown"))["jobs"]
            settled = {"job_id": lost["job_id"], "outcome": "not_submitted"}
            await call(client, "resolve_job", **settled)
            new = await call(client, "start_batch", **prompts(3))
            assert new["batch_id"] != first["batch_id"]


async def test_a_killed_server_s_batch_is_carried_on_by_the_one_that_is_asked_for_it_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    sandbox = Sandbox(clock=clock)
    one = process(sandbox, tmp_path, clock)
    two = process(sandbox, tmp_path, clock, seed=1)
    with anyio.fail_after(9 * HOUR):
        async with anyio.create_task_group() as tasks:
            one.begin(tasks)
            two.begin(tasks)
            await two.store()
            first = await one.call("start_batch", **prompts(30))
            await anyio.sleep(20)
            await one.kill()
            await anyio.sleep(WINDOW + 6)
            again = await two.call("start_batch", **prompts(30))
            assert again["batch_id"] == first["batch_id"]
            while (await two.call("check_batch", batch_id=first["batch_id"]))[
                "status"
            ] == "running":
                pass
            await two.stop()
    assert len(sandbox.emulators["zsky"].charges) == 30
