"""The internal status ``submitting`` is shown nowhere: a job whose request is on its way is running."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, get_args

import anyio
import httpx2
import pytest

from darkroom.jobs.model import LOCAL_OWNER, shown, statuses_shown_as
from darkroom.jobs.storage.memory import MemoryStore
from darkroom.providers.client import http
from darkroom.providers.values import ShownStatus, Status
from darkroom_tools.emulators.sandbox import Sandbox
from tests.harness import inline, rig
from tests.mcp.tasks.support import ask, result, task_client
from tests.mcp.test_prompts import GIVEN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp import Client

pytestmark = pytest.mark.anyio

START = "zsky_start_image"
INTERNAL = "submitting"


class Stuck(httpx2.AsyncBaseTransport):
    """Keeps every submission on its way until the test lets it arrive."""

    def __init__(self, way: httpx2.AsyncBaseTransport) -> None:
        self.way = way
        self.arrive = anyio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            await self.arrive.wait()
        return await self.way.handle_async_request(request)


def texts(folder: Path) -> str:
    """Return what stands in every file of a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return "".join(path.read_text("utf-8", "replace") for path in files)


async def everything_about(client: Client, job_id: str, batch_id: str) -> dict[str, str]:
    """Ask every tool, prompt, resource and task about a job; return what each says."""
    said: dict[str, str] = {}
    known: dict[str, Any] = {"job_id": job_id, "job_ids": [job_id], "batch_id": batch_id}
    more = {
        "list_jobs": {"status": "running"},
        "check_batch": {"show": "all"},
        "save_results": {"to": "somewhere.png"},
        "resolve_job": {"verdict": "not_submitted"},
    }
    for tool in (await client.list_tools()).tools:
        if tool.name.startswith(("zyng", "claid", "zupertry", "znyx", "start_batch")):
            continue  # none of theirs takes this job
        taken = tool.input_schema.get("properties", {})
        given = {name: value for name, value in known.items() if name in taken}
        if tool.name in {"list_jobs", "show_results", "save_results"}:
            given.pop("batch_id")
        answer = await client.call_tool(tool.name, {**given, **more.get(tool.name, {})})
        said[tool.name] = answer.model_dump_json()
    for prompt in (await client.list_prompts()).prompts:
        found = await client.get_prompt(prompt.name, GIVEN[prompt.name])
        said[f"prompt {prompt.name}"] = found.model_dump_json()
    said["resource"] = (await client.read_resource(f"darkroom://jobs/{job_id}")).model_dump_json()
    for task in (job_id, batch_id):
        said[f"task {task}"] = str(await ask(client, "tasks/get", taskId=task))
    with pytest.raises(Exception, match="no output 0") as missing:
        await client.read_resource(f"darkroom://jobs/{job_id}/outputs/0")
    said["output"] = str(missing.value)
    return said


async def test_no_text_of_a_tool_resource_task_prompt_or_manifest_says_submitting(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "DEADLINE_SECONDS", math.inf)
    sandbox = Sandbox(clock=clock)
    stuck, store = Stuck(sandbox.transport()), MemoryStore()

    async def opened(_: object) -> MemoryStore:
        return store

    server = rig(clock, tmp_path, sandbox=sandbox, transport=stuck, open_store=opened)
    async with task_client(server) as client:
        begun = await result(client, "start_batch", tool=START, arguments={"prompt": "a"})
        batch_id = begun["task"]["taskId"]
        job_id = (await result(client, START, prompt="b"))["task"]["taskId"]
        await anyio.sleep(5)
        row = await store.job(LOCAL_OWNER, job_id)
        assert row is not None
        assert row.status == INTERNAL
        said = await everything_about(client, job_id, batch_id)
        row = await store.job(LOCAL_OWNER, job_id)
        assert row is not None
        assert row.status == INTERNAL
        stuck.arrive.set()
    assert job_id in said["list_jobs"]
    assert '"status":"running"' in said["zsky_check_job"]
    assert {name: text for name, text in said.items() if INTERNAL in text} == {}
    assert len(said) > 20
    assert INTERNAL not in await inline(lambda: texts(tmp_path / "results"))


def test_every_status_is_shown_as_one_that_a_search_finds_it_by() -> None:
    statuses: tuple[Status, ...] = get_args(Status)
    for status in statuses:
        assert shown(status) in get_args(ShownStatus)
        assert status in statuses_shown_as(shown(status))
