"""Prompts and completions."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, PromptReference, ResourceTemplateReference, TextContent

from darkroom_tools import CATALOGUE
from tests.harness import ERAS, Era, call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mcp import Client

pytestmark = pytest.mark.anyio

GIVEN = {
    "look_book": {
        "garments": "https://a.example.org/1.jpg https://a.example.org/2.jpg",
        "models": "https://b.example.org/1",
    },
    "clean_photos": {"photos": "https://a.example.org/1.jpg, https://a.example.org/2.jpg"},
    "variants": {"idea": "a lighthouse", "count": "6"},
    "spending": {},
    "settle_unknown": {},
}
EVERY_TOOL = {tool.name for tool in CATALOGUE.tools} | {
    operation.name for provider in CATALOGUE.providers for operation in provider.operations
}
WORKFLOWS = '{"cutout": {"workflow_details": {}, "output_details": {}}}'


@pytest.mark.parametrize("era", ERAS)
async def test_every_prompt_is_offered_and_names_only_tools_that_are_there(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    async with rig(clock, tmp_path).client(era) as client:
        offered = (await client.list_prompts()).prompts
        assert [prompt.name for prompt in offered] == list(GIVEN)
        tools = {tool.name for tool in (await client.list_tools()).tools}
        prefixes = tuple(f"{provider.name}_" for provider in CATALOGUE.providers)
        for prompt in offered:
            assert prompt.title
            assert prompt.description
            (message,) = (await client.get_prompt(prompt.name, GIVEN[prompt.name])).messages
            assert message.role == "user"
            assert isinstance(message.content, TextContent)
            words = {word.strip(".,;:()") for word in message.content.text.split()}
            assert {word for word in words if word.startswith(prefixes)} <= tools
            for value in GIVEN[prompt.name].values():
                assert value.split()[-1] in message.content.text


async def written(client: Client, name: str, **given: str) -> str:
    (message,) = (await client.get_prompt(name, given)).messages
    assert isinstance(message.content, TextContent)
    return message.content.text


def call_in(text: str) -> dict[str, Any]:
    """Return the arguments that a prompt tells the model to use."""
    found, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    return found


@pytest.mark.parametrize(
    ("name", "given", "jobs"),
    [
        (
            "look_book",
            GIVEN["look_book"] | {"models": "https://b.example.org/1, https://b.example.org/2"},
            4,
        ),
        ("look_book", GIVEN["look_book"] | {"workspace_id": "ws_1"}, 2),
        ("clean_photos", GIVEN["clean_photos"], 2),
        (
            "clean_photos",
            {"photos": "https://a.example.org/w_1,h_2/a.jpg,https://a.example.org/b"},
            2,
        ),
        (
            "clean_photos",
            {"photos": "https://a.example.org/1", "size": "900", "background": "#00ff00"},
            1,
        ),
        ("variants", GIVEN["variants"], 1),
    ],
)
async def test_what_a_prompt_asks_for_is_what_the_tool_takes(
    clock: Callable[[], float], tmp_path: Path, name: str, given: dict[str, str], jobs: int
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        text = await written(client, name, **given)
        asked = call_in(text)
        estimate = await call(client, "start_batch", **{"dry_run": True, **asked})
    assert estimate["total"] == jobs
    assert "start_batch" in text


async def test_a_prompt_sends_photos_through_a_workflow(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path, environment={"DARKROOM_ZYNG__WORKFLOWS": WORKFLOWS})
    async with server.client() as client:
        text = await written(client, "clean_photos", **GIVEN["clean_photos"], workflow="cutout")
        job = await call(client, "zyng_start_images", **call_in(text))
    assert job["operation"] == "zyng_start_images"
    assert job["cost"]["amount"] == 2


async def test_what_was_asked_for_in_words_is_left_to_the_model(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        wanted = {"background": "light grey", "size": "as large as possible"}
        text = await written(client, "clean_photos", **GIVEN["clean_photos"], **wanted)
    assert "light grey, as #rrggbb" in text
    assert "as large as possible" in text


@pytest.mark.parametrize(
    ("exclude", "offered", "arguments"),
    [
        (["claid_*"], list(GIVEN), {"photos", "workflow"}),
        (["zyng_*"], list(GIVEN), {"photos", "background", "size"}),
        (["zyng_*", "claid_*"], ["look_book", "variants", "spending", "settle_unknown"], None),
        (["start_batch"], list(GIVEN), {"photos", "workflow", "background", "size"}),
        (["save_results"], list(GIVEN), {"photos", "workflow", "background", "size"}),
        (["show_results", "save_results"], list(GIVEN), None),
        (["list_jobs"], ["look_book", "clean_photos", "variants"], None),
    ],
)
async def test_a_prompt_makes_do_with_the_tools_that_are_there(
    clock: Callable[[], float],
    tmp_path: Path,
    exclude: list[str],
    offered: list[str],
    arguments: set[str] | None,
) -> None:
    server = rig(clock, tmp_path, environment={"DARKROOM_SERVE__EXCLUDE": json.dumps(exclude)})
    async with server.client() as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        prompts = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        assert list(prompts) == offered
        if arguments:
            listed = prompts["clean_photos"].arguments or []
            assert {argument.name for argument in listed} == arguments
        for name in offered:
            named = set(re.findall(r"\w+", await written(client, name, **GIVEN[name])))
            assert named & EVERY_TOOL <= tools, name


async def test_a_prompt_is_offered_only_where_its_tools_are(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path, environment={"DARKROOM_SERVE__READ_ONLY": "true"})
    async with server.client() as client:
        assert [prompt.name for prompt in (await client.list_prompts()).prompts] == ["spending"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("lookbook", {}, "look_book"),
        ("variants", {}, "idea: missing"),
        ("variants", {"idea": "x", "cuont": "3"}, "cuont: no such argument"),
        ("variants", {"idea": "x" * 20_001}, "at most 20000"),
    ],
)
async def test_a_wrong_request_says_what_is_wrong(
    clock: Callable[[], float],
    tmp_path: Path,
    era: Era,
    name: str,
    given: dict[str, str],
    says: str,
) -> None:
    async with rig(clock, tmp_path).client(era) as client:
        with pytest.raises(MCPError) as refusal:
            await client.get_prompt(name, given)
        assert refusal.value.error.code == INVALID_PARAMS
        assert says in refusal.value.error.message


@pytest.mark.parametrize("era", ERAS)
async def test_arguments_are_completed(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    server = rig(clock, tmp_path, environment={"DARKROOM_ZYNG__WORKFLOWS": WORKFLOWS})
    async with server.client(era) as client:

        async def values(prompt: str, argument: str, typed: str = "") -> list[str]:
            asked = {"name": argument, "value": typed}
            found = await client.complete(PromptReference(type="ref/prompt", name=prompt), asked)
            return found.completion.values

        assert await values("clean_photos", "workflow", "cu") == ["cutout"]
        assert await values("clean_photos", "workflow", "x") == []
        listed = await call(client, "zupertry_list_workspaces")
        ids = [workspace["id"] for workspace in listed["workspaces"]]
        assert ids
        assert await values("look_book", "workspace_id") == ids
        assert await values("settle_unknown", "job_id") == []
        assert await values("variants", "idea", "a") == []
        assert await values("nonsense", "idea", "a") == []
        job = await call(client, "zsky_start_image", prompt="A boat")
        template = ResourceTemplateReference(type="ref/resource", uri="darkroom://jobs/{job_id}")
        found = await client.complete(template, {"name": "job_id", "value": "zsky_"})
        assert found.completion.values == [job["job_id"]]
