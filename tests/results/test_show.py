"""Pictures for the person and the model, within what hosts can take."""

from __future__ import annotations

import base64
import io
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp_types import CallToolResult, TextContent
from PIL import Image

from darkroom import catalogue
from darkroom.cli.token_count import count, tool_tokens
from darkroom.jobs.model import Job
from darkroom.jobs.registry import LiveJob
from darkroom.providers.values import Output
from darkroom.results.outputs import ResultItem
from darkroom.results.webm import first_frame
from darkroom_tools.emulators import pictures as drawing
from darkroom_tools.neutral import results
from tests.harness import ERAS, Era, call, refused, rig, text_of
from tests.results.support import file_of, image, pictures, shown, tryon, video

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.engine.engine import Engine

pytestmark = pytest.mark.anyio

MOST_TOGETHER = 200 * 1024


def decoded(picture: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture)))


def within_bounds(result: CallToolResult) -> None:
    """Check what hosts can take."""
    assert result.structured_content is None
    assert sum(len(picture.data) for picture in pictures(result)) <= MOST_TOGETHER
    for picture in pictures(result):
        assert max(decoded(picture.data).size) <= 776
    assert len(text_of(result)) <= results.TEXT_CHARACTERS


@pytest.mark.parametrize("era", ERAS)
async def test_one_result_is_one_preview_with_its_file_and_address(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    async with rig(clock, tmp_path).client(era) as client:
        job = await image(client, width=2048, height=1024)
        result = await shown(client, job_ids=[job["job_id"]])
    within_bounds(result)
    (picture,) = pictures(result)
    assert picture.mime_type == "image/jpeg"
    assert decoded(picture.data).size == (768, 384)
    text = text_of(result)
    assert job["outputs"][0]["file"] in text
    assert "until 2026-11-23T" in text
    assert "https://zsky.sandbox.test/assets/" in text


async def test_a_few_results_are_one_preview_each(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        ids = [(await image(client, prompt))["job_id"] for prompt in ("a boat", "a kite")]
        ids.append((await tryon(client, server))["job_id"])
        result = await shown(client, job_ids=ids)
    assert len(pictures(result)) == 3
    within_bounds(result)


async def test_many_results_are_one_numbered_sheet(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        ids = [
            (await image(client, f"picture number {n}", width=1024, height=512))["job_id"]
            for n in range(9)
        ]
        result = await shown(client, job_ids=ids)
    within_bounds(result)
    (sheet,) = pictures(result)
    assert max(decoded(sheet.data).size) <= 768
    numbers = [line.partition(".")[0] for line in text_of(result).splitlines()]
    assert numbers == [str(n + 1) for n in range(9)]


async def test_a_film_is_shown_by_its_first_frame(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        job = await video(client)
        result = await shown(client, job_ids=[job["job_id"]])
    (picture,) = pictures(result)
    still = decoded(picture.data).convert("RGB")
    assert len(still.getcolors(1 << 20) or range(1000)) > 500, "a picture, not a card"


def test_the_first_frame_is_the_picture_that_the_film_was_made_of() -> None:
    film = drawing.video("a boat", None, 3, provider="zsky")
    frame = first_frame(film)
    assert frame is not None
    with Image.open(io.BytesIO(frame)) as picture:
        picture.load()
        assert picture.format == "WEBP"


@given(st.binary(max_size=400))
def test_no_bytes_upset_the_search_for_a_frame(data: bytes) -> None:
    assert first_frame(data) is None
    assert first_frame(b"\x1aE\xdf\xa3\x80" + data) is None


@given(cut=st.integers(0, 40_000))
@settings(deadline=None)
def test_a_film_may_end_anywhere(cut: int) -> None:
    film = _FILM[:cut]
    frame = first_frame(film)
    assert frame is None or frame.startswith(b"RIFF")


_FILM = drawing.video("a boat", None, 2, provider="zsky")


async def test_jobs_that_have_not_ended_or_failed_are_told_in_words(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        running = await call(client, "zsky_start_video", prompt="a boat")
        failed = await image(client, "fails-in-processing")
        result = await shown(client, job_ids=[running["job_id"], failed["job_id"]])
    assert pictures(result) == []
    assert "running; call zsky_check_job" in text_of(result)
    assert "failed" in text_of(result)


async def test_a_file_that_was_changed_or_linked_away_is_fetched_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        changed, linked = await image(client, "a boat"), await image(client, "a kite")
        path = file_of(linked)
        path.rename(tmp_path / "elsewhere.webp")
        path.symlink_to(tmp_path / "elsewhere.webp")
        file_of(changed).write_bytes(b"\x89PNG\r\n\x1a\n")
        result = await shown(client, job_ids=[changed["job_id"], linked["job_id"]])
        for picture in pictures(result):
            card = decoded(picture.data).convert("RGB")
            assert card.getpixel((2, 2)) != pytest.approx((229, 226, 220), abs=3)


async def test_a_host_with_apps_finds_the_gallery_and_the_jobs(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        tools = (await client.list_tools()).tools
        meta = next(tool.meta for tool in tools if tool.name == "show_results")
        assert meta is not None
        uri = meta["ui"]["resourceUri"]
        assert meta["ui/resourceUri"] == uri
        job = await image(client)
        result = await shown(client, job_ids=[job["job_id"]])
        assert (result.meta or {})["darkroom/job_ids"] == [job["job_id"]]
        (page,) = (await client.read_resource(uri)).contents
        assert page.mime_type == "text/html;profile=mcp-app"


async def test_unknown_jobs_are_refused(clock: Callable[[], float], tmp_path: Path) -> None:
    async with rig(clock, tmp_path).client() as client:
        assert (await refused(client, "show_results", job_ids=["x"])).startswith("[not_found]")
        assert (await refused(client, "show_results")).startswith("[invalid_argument]")


def test_both_tools_cost_few_tokens() -> None:
    from darkroom.engine.arguments.schema import input_schema  # noqa: PLC0415 -- beside its only use

    costs = [
        tool_tokens(tool.name, tool.description, input_schema(tool.params))
        for tool in results.TOOLS
    ]
    assert sum(costs) <= 220


async def test_pillow_is_not_needed_before_the_first_picture(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        job = await call(client, "zsky_start_image", prompt="a boat", width=256, height=256)
        monkeypatch.delitem(vars(catalogue), "preview", raising=False)  # an earlier test's
        monkeypatch.setitem(sys.modules, "darkroom.results.preview", None)
        monkeypatch.delattr("darkroom.results.preview", raising=False)
        ended = await call(client, "zsky_check_job", job_id=job["job_id"])
        assert "file" in ended["outputs"][0]
        error = await refused(client, "show_results", job_ids=[job["job_id"]])
        assert error.startswith("[internal_error]")


# --- bounds ------------------------------------------------------------------------------------


class _Known:
    """As much of a machine as the text of a result asks for."""

    def __init__(self) -> None:
        self.providers: dict[str, object] = {}

    def check_tool(self, job: Job) -> str:
        return f"{job.provider}_check"

    def shown_output(self, job_id: str, output: Output) -> Output:
        del job_id
        return output


ADDRESSES = st.integers(0, 6_000).map(lambda n: "https://files.example.com/" + "a" * n)
OUTPUTS = st.lists(
    st.tuples(ADDRESSES, st.one_of(st.none(), st.text("ab/", min_size=1, max_size=300))),
    max_size=3,
)


@given(jobs=st.lists(OUTPUTS, min_size=1, max_size=100))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_the_text_is_within_its_bound_whatever_the_jobs_are(
    jobs: list[list[tuple[str, str | None]]],
) -> None:
    lives: list[LiveJob] = []
    items: list[ResultItem] = []
    for number, outputs in enumerate(jobs):
        made = tuple(
            Output(index=index, url=url, expires_at=1e9, file=file, media_type="image/png")
            for index, (url, file) in enumerate(outputs)
        )
        job = replace(_JOB, job_id=f"zsky_{number}", outputs=made)
        lives.append(LiveJob(job))
        items += [ResultItem(len(items) + 1, job, output, None) for output in made]
    text = results.text_of(cast("Engine", _Known()), lives, items)
    assert len(text) <= results.TEXT_CHARACTERS
    assert text


_JOB = Job(
    job_id="zsky_0",
    owner="local",
    provider="zsky",
    operation="zsky_start_image",
    status="completed",
    arguments={},
    intent="",
    fingerprint="",
    created_at=0,
    updated_at=0,
)


async def test_no_result_of_many_jobs_with_long_prompts_passes_its_bound(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    async with rig(clock, tmp_path).client() as client:
        prompts = [f"{n} " + "long prompt with many words " * 70 for n in range(20)]
        ids: list[str] = []
        for prompt in prompts:
            started = await call(
                client, "zsky_start_image", prompt=prompt[:2000], width=256, height=256
            )
            ids.append(started["job_id"])
        await anyio.sleep(600)
        for number in (1, 4, 5, 20):
            result = await shown(client, job_ids=ids[:number])
            within_bounds(result)
            assert len(pictures(result)) == (number if number <= 4 else 1)
        for job_id in ids:
            checked = await client.call_tool("zsky_check_job", {"job_id": job_id})
            assert isinstance(checked, CallToolResult)
            assert all(isinstance(block, TextContent) for block in checked.content)
            tokens = count(str(checked.structured_content))[0]
            assert tokens <= 300, "no picture passes through check"
