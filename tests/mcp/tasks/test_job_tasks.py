"""Start tools that answer with a task, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
)

from tests.harness import call, refused, rig
from tests.mcp.tasks.support import (
    ACKNOWLEDGED,
    PROMPT,
    TaskClient,
    ask,
    ended,
    listen,
    result,
    started,
    task_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.anyio


async def test_a_start_is_a_task_whose_result_is_what_check_says(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with task_client(rig(clock, tmp_path)) as client:
        seed = await started(client)
        assert seed["status"] == "working"
        assert seed["ttlMs"] is None
        assert seed["pollIntervalMs"] > 0
        assert not {"result", "error", "inputRequests"} & seed.keys()
        task = await ended(client, seed["taskId"])
        assert task["status"] == "completed"
        checked = await client.call_tool("zsky_check_job", {"job_id": seed["taskId"]})
        assert isinstance(checked, CallToolResult)
        assert task["result"]["structuredContent"] == checked.structured_content
        assert task["result"]["structuredContent"]["status"] == "completed"
        assert task["result"]["content"][0]["text"]


async def test_who_did_not_declare_tasks_sees_no_difference(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        job = await call(client, "zsky_start_image", prompt=PROMPT)
        assert job["status"] == "running"
        for method in ("tasks/get", "tasks/cancel", "tasks/update"):
            with pytest.raises(MCPError) as refusal:
                await ask(client, method, taskId=job["job_id"], inputResponses={})
            assert refusal.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY


async def test_the_older_era_has_no_tasks_whatever_is_declared(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with task_client(rig(clock, tmp_path), "legacy") as client:
        job = await call(client, "zsky_start_image", prompt=PROMPT)
        assert job["status"] == "running"


async def test_a_refused_start_is_an_ordinary_error(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with task_client(rig(clock, tmp_path)) as client:
        assert "[invalid_argument]" in await refused(client, "zsky_start_image", sead=1)


async def test_other_calls_are_answered_at_once(clock: Callable[[], float], tmp_path: Path) -> None:
    async with task_client(rig(clock, tmp_path)) as client:
        assert "jobs" in await call(client, "list_jobs")


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel"])
@pytest.mark.parametrize("task_id", ["zsky_AAAAAAAAAAAAAAAAAAAAAA", "", "nonsense"])
async def test_an_unknown_task_is_an_error(
    clock: Callable[[], float], tmp_path: Path, method: str, task_id: str
) -> None:
    async with task_client(rig(clock, tmp_path)) as client:
        with pytest.raises(MCPError) as refusal:
            await ask(client, method, taskId=task_id)
        assert refusal.value.error.code == INVALID_PARAMS


async def test_another_owner_has_no_such_task(clock: Callable[[], float], tmp_path: Path) -> None:
    server = rig(clock, tmp_path)
    async with task_client(server) as client:
        seed = await started(client)
        engine = cast("Any", server.server).engine
        engine.owner = "somebody else"
        with pytest.raises(MCPError) as refusal:
            await ask(client, "tasks/get", taskId=seed["taskId"])
        assert refusal.value.error.code == INVALID_PARAMS


async def test_a_task_is_cancelled_at_the_provider_where_it_can(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    photos = {
        "model_image_url": server.sandbox.sample("model", 1),
        "garment_image_url": server.sandbox.sample("garment", 1),
    }
    async with task_client(server) as client:
        seed = await started(client, "zupertry_start_tryon", **photos)
        assert await ask(client, "tasks/cancel", taskId=seed["taskId"]) == ACKNOWLEDGED
        task = await ended(client, seed["taskId"])
        assert task["status"] == "cancelled"
        assert "result" not in task
        at_provider = await call(client, "zupertry_list_tryons")
        assert "cancelled" in str(at_provider).lower()
        assert await ask(client, "tasks/cancel", taskId=seed["taskId"]) == ACKNOWLEDGED


async def test_a_task_that_cannot_be_cancelled_goes_on(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with task_client(rig(clock, tmp_path)) as client:
        seed = await started(client)
        assert await ask(client, "tasks/cancel", taskId=seed["taskId"]) == ACKNOWLEDGED
        assert (await ended(client, seed["taskId"]))["status"] == "completed"


async def test_answers_to_nothing_are_acknowledged_and_ignored(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with task_client(rig(clock, tmp_path)) as client:
        seed = await started(client)
        answers: dict[str, Any] = {"unasked": {"action": "accept"}}
        assert (
            await ask(client, "tasks/update", taskId=seed["taskId"], inputResponses=answers)
            == ACKNOWLEDGED
        )
        assert (await ended(client, seed["taskId"]))["status"] == "completed"


async def test_a_task_lives_on_in_the_next_process(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = rig(clock, tmp_path, store="sqlite")
    async with task_client(first) as client:
        seed = await started(client)
    second = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with task_client(second) as client:
        task = await ended(client, seed["taskId"])
    assert task["status"] == "completed"
    assert task["createdAt"] == seed["createdAt"]


async def test_a_queued_job_is_withdrawn_whatever_its_provider_can(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with task_client(server) as client:
        for number in range(3):  # as many as ZSky takes at once
            await started(client, "zsky_start_video", prompt=f"Waves {number}")
        seed = await started(client)
        assert await ask(client, "tasks/cancel", taskId=seed["taskId"]) == ACKNOWLEDGED
        assert (await ended(client, seed["taskId"]))["status"] == "cancelled"
        assert len(server.sandbox.emulators["zsky"].charges) == 3


BATCH: dict[str, Any] = {
    "tool": "zsky_start_image",
    "arguments": {},
    "for_each": {"prompt": ["a boat", "a tree", "a house", "a bird"]},
}


async def test_a_batch_is_one_task(clock: Callable[[], float], tmp_path: Path) -> None:
    async with task_client(rig(clock, tmp_path)) as client:
        seed = await started(client, "start_batch", **BATCH)
        task = await ended(client, seed["taskId"])
        assert task["status"] == "completed"
        checked = await call(client, "check_batch", batch_id=seed["taskId"])
        assert task["result"]["structuredContent"] == checked
        assert checked["counts"] == {"completed": 4}


async def test_a_batch_is_cancelled_as_one(clock: Callable[[], float], tmp_path: Path) -> None:
    async with task_client(rig(clock, tmp_path)) as client:
        seed = await started(client, "start_batch", **BATCH)
        assert await ask(client, "tasks/cancel", taskId=seed["taskId"]) == ACKNOWLEDGED
        assert (await ended(client, seed["taskId"]))["status"] == "cancelled"
        checked = await call(client, "check_batch", batch_id=seed["taskId"])
        assert checked["counts"]["cancelled"] >= 1


async def test_an_estimate_of_a_batch_is_no_task(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with task_client(rig(clock, tmp_path)) as client:
        assert (await result(client, "start_batch", **BATCH, dry_run=True))["dry_run"] is True


async def test_a_stream_tells_of_a_batch(clock: Callable[[], float], tmp_path: Path) -> None:
    knows = TaskClient()
    async with (
        task_client(rig(clock, tmp_path), knows=knows) as client,
        anyio.create_task_group() as tasks,
    ):
        seed = await started(client, "start_batch", **BATCH)
        tasks.start_soon(listen, client, seed["taskId"])
        with anyio.fail_after(600):
            await knows.over.wait()
        tasks.cancel_scope.cancel()
        assert knows.told[-1]["status"] == "completed"
        assert knows.told[-1]["result"]["structuredContent"]["counts"] == {"completed": 4}


async def test_a_stream_tells_of_tasks_until_they_have_ended(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    knows = TaskClient()
    async with (
        task_client(rig(clock, tmp_path), knows=knows) as client,
        anyio.create_task_group() as tasks,
    ):
        seed = await started(client)
        tasks.start_soon(listen, client, seed["taskId"], "zsky_AAAAAAAAAAAAAAAAAAAAAA")
        task = await ended(client, seed["taskId"])
        with anyio.fail_after(60):
            await knows.over.wait()
        tasks.cancel_scope.cancel()
        assert {told["taskId"] for told in knows.told} == {seed["taskId"]}
        assert knows.told[0]["status"] == "working"
        last = {key: value for key, value in knows.told[-1].items() if key != "_meta"}
        assert last == {key: value for key, value in task.items() if key in last}
        assert last["result"] == task["result"]


async def test_a_stream_tells_of_tasks_only_who_declared_them(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        job = await call(client, "zsky_start_image", prompt=PROMPT)
        with pytest.raises(MCPError) as refusal:
            await listen(client, job["job_id"])
        assert refusal.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY
