"""Prompts and completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, PromptReference, ResourceTemplateReference, TextContent

from darkroom_tools import CATALOGUE
from tests.harness import ERAS, Era, call, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

GIVEN = {
    "look_book": {"garments": "https://a.test/1.jpg https://a.test/2.jpg", "models": "https://b"},
    "clean_photos": {"photos": "https://a.test/1.jpg, https://a.test/2.jpg"},
    "variants": {"idea": "a lighthouse", "count": "6"},
    "spending": {},
    "settle_unknown": {},
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
