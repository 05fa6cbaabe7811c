"""Filters: which tools a host sees and may call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from darkroom.errors import ConfigurationError
from tests.harness import ERAS, Era, refused, rig

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


PROVIDERS = {"zyng", "zupertry", "zsky", "claid", "znyx"}


async def test_read_only_wins_over_everything(clock: Callable[[], float], tmp_path: Path) -> None:
    wanted = serve(read_only=True, tools=["zsky_*"], providers=["zsky"])
    server = rig(clock, tmp_path, environment=wanted)
    async with server.client() as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == {"zsky_check_job", "zsky_get_usage"}
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
        assert "zsky_start_image" in await refused(client, "zsky_start_image", prompt="A boat")
    assert server.sandbox.emulators["zsky"].requests == []


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
