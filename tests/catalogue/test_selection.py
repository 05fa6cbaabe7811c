"""Filters: which tools a host sees and may call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from mcp_types import ResourceTemplateReference

from darkroom.core.errors import ConfigurationError
from darkroom_tools import CATALOGUE
from tests.harness import ERAS, Era, Rig, call, refused, rig
from tests.mcp.tasks.support import ask, task_client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


def serve(**filters: Any) -> dict[str, str]:
    return {f"DARKROOM_SERVE__{name.upper()}": json.dumps(value) for name, value in filters.items()}


async def names(
    clock: Callable[[], float], folder: Path, environment: dict[str, str], era: Era = "auto"
) -> set[str]:
    async with rig(clock, folder, environment=environment).client(era) as client:
        return {tool.name for tool in (await client.list_tools()).tools}


@pytest.mark.parametrize("era", ERAS)
async def test_only_what_is_wanted_is_listed(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    everything = await names(clock, tmp_path, {}, era)
    neutral = {name for name in everything if name.partition("_")[0] not in PROVIDERS}
    zsky = {name for name in everything if name.startswith("zsky_")}
    assert await names(clock, tmp_path, serve(providers=["zsky"]), era) == zsky | neutral
    assert await names(clock, tmp_path, serve(tools=["zsky_*"]), era) == zsky
    assert await names(clock, tmp_path, serve(exclude=["zsky_*"]), era) == everything - zsky
    both = serve(tools=["zsky_*", "list_jobs"], exclude=["*_rotate_key"])
    assert await names(clock, tmp_path, both, era) == zsky - {"zsky_rotate_key"} | {"list_jobs"}


PROMPTS = {"prompt": ["A boat", "A lighthouse"]}


def sent(server: Rig) -> list[tuple[str, str]]:
    """Return the requests to providers that change or cost something."""
    return [
        (request.method, request.path)
        for emulator in server.sandbox.emulators.values()
        for request in emulator.requests
        if request.method != "GET"
    ]


PROVIDERS = {"zyng", "zupertry", "zsky", "claid", "znyx"}


async def test_what_says_how_to_begin_is_there_whatever_the_filters(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    keys = tuple(c.variable for p in CATALOGUE.providers for c in p.credentials)
    wanted = serve(tools=["zsky_*"], read_only=True)
    server = rig(clock, tmp_path, environment=wanted, without=keys)
    async with server.client() as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["get_setup"]


async def test_a_server_without_any_tool_says_so(
    clock: Callable[[], float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig(clock, tmp_path, environment=serve(tools=["zsky_start_*"], read_only=True))
    assert "leave no tool" in caplog.text


async def test_read_only_wins_over_everything(clock: Callable[[], float], tmp_path: Path) -> None:
    wanted = serve(read_only=True, tools=["zsky_*"], providers=["zsky"])
    server = rig(clock, tmp_path, environment=wanted)
    async with server.client() as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == {"zsky_check_job", "zsky_get_usage"}
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
        assert "zsky_start_image" in await refused(client, "zsky_start_image", prompt="A boat")
    assert server.sandbox.emulators["zsky"].requests == []


async def test_read_only_wins_over_approval_tasks_and_prompts(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = rig(clock, tmp_path, store="sqlite")
    async with first.client() as client:
        photos = {
            f"{kind}_image_url": first.sandbox.sample(kind, 1) for kind in ("model", "garment")
        }
        job = await call(client, "zupertry_start_tryon", **photos)
        batch = await call(client, "start_batch", tool="zsky_start_image", for_each=PROMPTS)
    never = {"DARKROOM_APPROVAL__NEVER_ASK": '["zsky_delete_result", "znyx_revoke_token"]'}
    looking = rig(
        clock,
        tmp_path,
        store="sqlite",
        sandbox=first.sandbox,
        environment=serve(read_only=True, tools=["*"]) | never,
    )
    before = len(sent(first))
    async with task_client(looking) as client:
        assert "zsky_delete_result" in await refused(client, "zsky_delete_result", job_id="x")
        task = {"taskId": job["job_id"]}
        assert (await ask(client, "tasks/get", **task))["status"] == "working"
        assert await ask(client, "tasks/cancel", **task) == {"resultType": "complete"}
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["spending"]
        await client.read_resource(f"darkroom://jobs/{job['job_id']}")
        template = ResourceTemplateReference(type="ref/resource", uri="darkroom://jobs/{job_id}")
        await client.complete(template, {"name": "job_id", "value": ""})
        checked = await call(client, "zupertry_check_tryon", job_id=job["job_id"])
        assert checked["status"] == "completed"
        done = await call(client, "check_batch", batch_id=batch["batch_id"])
        assert done["total"] == len(PROMPTS["prompt"])
    assert len(sent(first)) == before


@pytest.mark.parametrize(
    ("filters", "says"),
    [
        ({"providers": ["zskie"]}, "did you mean 'zsky'?"),
        ({"tools": ["zsky_start_imag"]}, "did you mean 'zsky_start_image'?"),
        ({"exclude": ["nothing_*"]}, "nothing is called 'nothing_*'"),
    ],
)
async def test_a_filter_that_names_nothing_is_refused(
    clock: Callable[[], float], tmp_path: Path, filters: dict[str, list[str]], says: str
) -> None:
    with pytest.raises(ConfigurationError, match="serve") as refusal:
        rig(clock, tmp_path, environment=serve(**filters))
    assert says in str(refusal.value)
