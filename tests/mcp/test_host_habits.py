"""What hosts and frameworks do differently from each other, and have a setting or an alias for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from tests.harness import ERAS, Era, call, refused, rig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("seconds", [4, 25])
async def test_a_check_waits_as_the_settings_say_where_the_call_does_not(
    clock: Callable[[], float], tmp_path: Path, era: Era, seconds: int
) -> None:
    variables = {"DARKROOM_SERVE__WAIT_SECONDS": str(seconds)}
    async with rig(clock, tmp_path, environment=variables).client(era) as client:
        job = await call(client, "zsky_start_video", prompt="Waves")
        began = anyio.current_time()
        await call(client, "zsky_check_job", job_id=job["job_id"])
        assert anyio.current_time() - began == pytest.approx(seconds, abs=0.5)
        began = anyio.current_time()
        await call(client, "zsky_check_job", job_id=job["job_id"], wait_seconds=2)
        assert anyio.current_time() - began == pytest.approx(2, abs=0.5)


async def test_a_batch_is_waited_for_as_the_settings_say(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    variables = {"DARKROOM_SERVE__WAIT_SECONDS": "3"}
    async with rig(clock, tmp_path, environment=variables).client() as client:
        items = [{"tool": "zsky_start_video", "arguments": {"prompt": "Waves"}}]
        batch = await call(client, "start_batch", items=items)
        began = anyio.current_time()
        await call(client, "check_batch", batch_id=batch["batch_id"])
        assert anyio.current_time() - began <= 3.5


@pytest.mark.parametrize("previews", ["on", "off"])
async def test_pictures_go_to_the_model_only_where_the_settings_want_it(
    clock: Callable[[], float], tmp_path: Path, previews: str
) -> None:
    variables = {"DARKROOM_RESULTS__PREVIEWS": previews}
    async with rig(clock, tmp_path, environment=variables).client() as client:
        job = await call(client, "zsky_start_image", prompt="A boat")
        done = await call(client, "zsky_check_job", job_id=job["job_id"])
        shown = await client.call_tool("show_results", {"job_ids": [job["job_id"]]})
    kinds = [block.type for block in shown.content]
    assert kinds == (["text", "image"] if previews == "on" else ["text"])
    assert done["outputs"][0]["file"] in getattr(shown.content[0], "text", "")


async def test_args_is_another_name_for_arguments_in_a_batch(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    prompts = {"prompt": ["A boat", "A barn"]}
    common = {"width": 512}
    async with rig(clock, tmp_path).client() as client:
        first = await call(
            client, "start_batch", tool="zsky_start_image", args=common, for_each=prompts
        )
        again = await call(
            client, "start_batch", tool="zsky_start_image", arguments=common, for_each=prompts
        )
        said = await refused(
            client,
            "start_batch",
            tool="zsky_start_image",
            args=common,
            arguments={"width": 1024},
            for_each=prompts,
        )
    assert first["total"] == 2
    assert again["batch_id"] == first["batch_id"]
    assert "arguments and args are the same: give one of them" in said


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("zsky_start_images", "did you mean zsky_start_image?"),
        ("zsky.start.image", "did you mean zsky_start_image?"),
        ("Zsky_Check_Job", "did you mean zsky_check_job?"),
        ("xxxxxxxxxxxxxxxx", "call a tool of the list"),
    ],
)
async def test_a_tool_that_is_not_there_is_refused_with_the_nearest_name(
    clock: Callable[[], float], tmp_path: Path, era: Era, name: str, hint: str
) -> None:
    async with rig(clock, tmp_path).client(era) as client:
        said = await refused(client, name)
    assert said.startswith("[not_found] there is no tool")
    assert hint in said
