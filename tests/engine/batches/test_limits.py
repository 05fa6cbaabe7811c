"""Batches at the limits: mixed providers, fairness, a 429 that comes all the same, polls."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from tests.engine.batches.support import charged, prompts, until_done
from tests.engine.support import asked, most_in_a_window
from tests.harness import ERAS, Era, Rig, call, inline, rig

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

STATUSES = {429}


def too_many(dependencies: Rig, emulator: str) -> int:
    """Count the answers 429 that the emulator gave of its own, not by a plan."""
    requests = dependencies.sandbox.emulators[emulator].requests
    return sum(each.status in STATUSES and each.fault is None for each in requests)


async def test_one_batch_may_ask_several_providers(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    sample = dependencies.sandbox.sample
    items = [
        {"id": "boat", "tool": "zsky_start_image", "arguments": {"prompt": "A boat"}},
        {
            "id": "worn",
            "tool": "zupertry_start_tryon",
            "arguments": {
                "model_image_url": sample("model", 1),
                "garment_image_url": sample("garment", 1),
            },
        },
        {
            "id": "small",
            "tool": "claid_start_image_edit",
            "arguments": {"input": "item:boat", "operations": {"resizing": {"width": 200}}},
        },
        {
            "id": "grey",
            "tool": "zyng_start_images",
            "arguments": {
                "images": [{"image_url": "item:worn#0", "image_name": "worn"}],
                "workflow_details": {"operation": "grayscale"},
                "output_details": {"format": "png"},
            },
        },
    ]
    async with dependencies.client() as client:
        started = await call(client, "start_batch", items=items)
        ended = await until_done(client, started["batch_id"])
        shown = await call(
            client, "check_batch", batch_id=started["batch_id"], show="all", wait_seconds=0
        )
    assert ended["counts"] == {"completed": 4}
    assert [job["item"] for job in shown["jobs"]] == ["boat", "worn", "small", "grey"]
    paid = {cost["provider"]: cost["amount"] for cost in ended["cost"]}
    assert paid == {"zsky": 1, "zupertry": 1, "claid": 1, "zyng": 1}


@pytest.mark.parametrize("retry_after", [None, "20"])
@pytest.mark.parametrize(
    ("operation", "tool"), [("generate_image", "zsky_start_image"), ("get_job", "zsky_start_image")]
)
async def test_too_many_requests_slow_a_batch_down_and_lose_nothing(
    clock: Callable[[], float],
    tmp_path: Path,
    retry_after: str | None,
    operation: str,
    tool: str,
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(20, tool=tool))
        await anyio.sleep(20)
        dependencies.sandbox.emulators["zsky"].faults.add(
            operation, Fault(kind="status", status=429, retry_after=retry_after), times=2
        )
        ended = await until_done(client, started["batch_id"])
    assert ended["counts"] == {"completed": 20}
    assert charged(dependencies, "zsky") == 20
    requests = asked(dependencies, "zsky", "generate_image", "get_job")
    refused = [each.at for each in requests if each.status == 429]
    assert len(refused) == 2
    pauses = [min(each.at for each in requests if each.at > at) - at for at in refused]
    assert min(pauses) >= (20 if retry_after else 2), "it waits before it asks for more"
    assert too_many(dependencies, "zsky") == 0


async def test_two_batches_share_a_provider_evenly(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        first = await call(client, "start_batch", **prompts(40, "Harbour"))
        await anyio.sleep(90)
        second = await call(client, "start_batch", **prompts(20, "Forest"))
        began = clock()
        ended = await until_done(client, second["batch_id"])
        sent = [
            json.loads(each.body)["prompt"].split()[0]
            for each in asked(dependencies, "zsky", "generate_image")
            if each.at >= began
        ]
        assert ended["counts"] == {"completed": 20}
        await until_done(client, first["batch_id"])
    shares = Counter(sent)
    assert abs(shares["Harbour"] - shares["Forest"]) <= 3


async def test_videos_and_their_polls_stay_under_the_rate(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(24, tool="zsky_start_video"))
        ended = await until_done(client, started["batch_id"], hours=2)
    assert ended["counts"] == {"completed": 24}
    emulator = dependencies.sandbox.emulators["zsky"]
    assert most_in_a_window(emulator) <= 20
    assert too_many(dependencies, "zsky") == 0
    polls = len(asked(dependencies, "zsky", "get_job"))
    assert polls <= 8 * 24


@pytest.mark.parametrize("era", ERAS)
async def test_a_wait_tells_how_far_the_batch_is(
    clock: Callable[[], float], tmp_path: Path, era: Era
) -> None:
    dependencies = rig(clock, tmp_path)
    told: list[tuple[float, float | None, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with dependencies.client(era) as client:
        started = await call(client, "start_batch", **prompts(40))
        for _ in range(3):
            arguments = {"batch_id": started["batch_id"], "wait_seconds": 40}
            told.clear()
            await client.call_tool("check_batch", arguments, progress_callback=tell)
            assert told, "a wait tells at once how far the batch is"
            assert {total for _, total, _ in told} == {40}
            done = [each[0] for each in told]
            assert all(earlier < later for earlier, later in itertools.pairwise(done))
    assert str(told[-1][2]).endswith("of 40 done")


async def test_copies_are_as_many_jobs_each_paid_for(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(
            client,
            "start_batch",
            tool="zsky_start_image",
            arguments={"prompt": "The same"},
            copies=4,
        )
        ended = await until_done(client, started["batch_id"])
        manifest = json.loads(await inline(Path(ended["manifest"]).read_text))
    assert ended["counts"] == {"completed": 4}
    assert [job["item"] for job in manifest["jobs"]] == ["0.1", "0.2", "0.3", "0.4"]
    assert charged(dependencies, "zsky") == 4


async def test_the_manifest_is_whole_at_every_moment(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(12))
        manifest, table = Path(started["manifest"]), Path(started["folder"], "manifest.csv")
        while True:
            listed = json.loads(await inline(manifest.read_text))["jobs"]
            assert [job["item"] for job in listed] == [str(place) for place in range(12)]
            assert len((await inline(table.read_text)).splitlines()) == 13
            report = await call(client, "check_batch", batch_id=started["batch_id"], wait_seconds=3)
            if report["status"] == "completed":
                break
        listed = json.loads(await inline(manifest.read_text))["jobs"]
    assert {job["status"] for job in listed} == {"completed"}, "and up to date at the end"
    beside = await inline(lambda: sorted(path.name for path in manifest.parent.glob("*manifest*")))
    assert beside == ["manifest.csv", "manifest.json"]


async def test_two_batches_of_one_name_have_folders_of_their_own(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        first = await call(client, "start_batch", **prompts(1), name="Look book")
        second = await call(client, "start_batch", **prompts(2), name="Look book")
        third = await call(client, "start_batch", **prompts(3), name="!!!")
    assert Path(first["folder"]).name == "look-book"
    assert len({first["folder"], second["folder"], third["folder"]}) == 3
    assert Path(third["folder"]).name == third["batch_id"]


async def test_the_gallery_shows_a_batch(clock: Callable[[], float], tmp_path: Path) -> None:
    dependencies = rig(clock, tmp_path)
    async with dependencies.client() as client:
        started = await call(client, "start_batch", **prompts(3))
        await until_done(client, started["batch_id"])
        shown = await client.call_tool("show_results", {"batch_id": started["batch_id"]})
    assert not shown.is_error
    assert sum(block.type == "image" for block in shown.content) == 3
    assert shown.meta is not None, "what the gallery draws"


async def test_a_large_job_of_a_batch_is_not_asked_about_while_others_wait_to_be_sent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    dependencies = rig(clock, tmp_path)
    image = dependencies.sandbox.sample("product", 1)
    lists = [
        [{"image_url": image, "image_name": f"{job}-{n}"} for n in range(20)] for job in range(3)
    ]
    async with dependencies.client() as client:
        started = await call(
            client,
            "start_batch",
            tool="zyng_start_images",
            arguments={
                "workflow_details": {"operation": "grayscale"},
                "output_details": {"format": "png"},
            },
            for_each={"images": lists},
        )
        assert started["seconds_left"] >= 6 * 60
        ended = await until_done(client, started["batch_id"])
    assert ended["counts"] == {"completed": 3}
    assert len(asked(dependencies, "zyng", "poll_results")) <= 6
