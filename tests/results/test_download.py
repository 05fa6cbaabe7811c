"""What a job made is fetched when it ends, and what cannot be fetched is said."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom.jobs.bounds import MOST_OUTPUTS
from darkroom.providers.operations import JobOperation
from darkroom.results import downloads
from darkroom_tools import CATALOGUE
from darkroom_tools.emulators.kit import Fault
from tests.harness import Rig, call, inline, rig
from tests.results.support import asked, file_of, files_in, image, tryon

if TYPE_CHECKING:
    from collections.abc import Callable

    from darkroom.catalogue.declarations import Catalogue
    from darkroom.providers.messages import Response, State
    from darkroom.providers.operations import Operation

pytestmark = pytest.mark.anyio

PIXEL_BOMB = (
    (b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60_000, 60_000, 8, 2, 0, 0, 0))
    + b"\0" * 4
    + b"\0\0\0\0IEND\xaeB`\x82"
)
BODIES = {
    "a page": b"<!doctype html><title>Sign in</title>",
    "an archive": b"PK\x03\x04" + b"\0" * 200,
    "sound": b"\0\0\0\x14ftypM4A \0\0\0\0M4A " + b"\0" * 64,
    "nothing": b"",
}


def serve(server: Rig, fault: Fault, times: int | None = 1) -> None:
    """Let ZSky's store answer with a fault."""
    server.sandbox.emulators["zsky"].faults.add("download", fault, times=times)


async def test_a_sidecar_tells_where_a_file_came_from_and_holds_no_secret(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        path = Path((await image(client, seed=7))["outputs"][0]["file"])
        tried = await tryon(client, server)
    beside = json.loads(path.with_name(path.name + ".json").read_text("utf-8"))
    assert beside["provider"] == "zsky"
    assert beside["operation"] == "zsky_start_image"
    assert beside["parameters"]["prompt"] == "A lighthouse at dusk"
    assert beside["parameters"]["seed"] == 7
    assert beside["cost"] == {"amount": 1, "unit": "images", "basis": "estimate"}
    assert beside["sha256"] == hashlib.sha256(await inline(path.read_bytes)).hexdigest()
    assert beside["created_at"] <= beside["completed_at"] <= beside["saved_at"]
    other = file_of(tried)
    for sidecar in (path.name + ".json", other.name + ".json"):
        text = (path.parent / sidecar).read_text("utf-8")
        assert "Signature" not in text
        assert server.environment["ZSKY_API_KEY"] not in text
        assert "?" not in text


async def test_the_signature_of_an_argument_is_not_written_into_a_sidecar(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        started = await call(
            client,
            "zupertry_start_tryon",
            model_image_url="https://shop.example.com/a.jpg?X-Amz-Signature=canary#part",
            garment_image_url="https://shop.example.com/b.jpg",
        )
        ended = await call(client, "zupertry_check_tryon", job_id=started["job_id"])
    path = file_of(ended)
    beside = json.loads(path.with_name(path.name + ".json").read_text("utf-8"))
    assert beside["parameters"]["model_image_url"] == "https://shop.example.com/a.jpg"


async def test_two_results_of_one_prompt_have_two_names(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        first = await image(client, seed=1)
        second = await image(client, seed=2)
    names = [file_of(job).name for job in (first, second)]
    assert names == ["zsky-lighthouse-at-dusk-1.webp", "zsky-lighthouse-at-dusk-1-2.webp"]
    assert all("2026-11-22" in job["outputs"][0]["file"] for job in (first, second))


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_what_is_no_picture_is_not_kept(
    clock: Callable[[], float], tmp_path: Path, body: bytes
) -> None:
    server = rig(clock, tmp_path)
    serve(server, Fault(kind="status", status=200, body=body), times=None)
    async with server.client() as client:
        ended = await image(client)
        assert ended["status"] == "completed"
        assert "output 0 was not downloaded" in ended["warnings"][0]
        assert ended["outputs"][0]["url"].startswith("https://")
        await anyio.sleep(86_400)
        assert asked(server, "zsky", "download") == 1, "time does not change what it is"
    assert files_in(server.results) == []


async def test_a_picture_with_too_many_pixels_is_kept_and_never_decoded(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    serve(server, Fault(kind="status", status=200, body=PIXEL_BOMB))
    async with server.client() as client:
        ended = await image(client)
        assert ended["outputs"][0]["width"] == 60_000
        result = await client.call_tool("show_results", {"job_ids": [ended["job_id"]]})
        assert not result.is_error
        assert len(result.content) == 2, "a text, and a card that says why"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="drop_during"),
        Fault(kind="drop_before"),
        Fault(kind="status", status=503),
        Fault(kind="status", status=429),
        Fault(kind="hang_after"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
async def test_a_download_that_broke_off_is_tried_again_without_being_asked(
    clock: Callable[[], float], tmp_path: Path, fault: Fault
) -> None:
    server = rig(clock, tmp_path)
    serve(server, fault)
    async with server.client() as client:
        started = await call(client, "zsky_start_image", prompt="A kite", width=256, height=256)
        await anyio.sleep(600)
        ended = await call(client, "zsky_check_job", job_id=started["job_id"], wait_seconds=0)
        assert "warnings" not in ended
        assert file_of(ended).name == "zsky-kite-1.webp"
    assert files_in(server.results) == ["zsky-kite-1.webp", "zsky-kite-1.webp.json"]


async def test_a_download_that_goes_on_failing_is_given_up_after_a_few_tries(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    serve(server, Fault(kind="status", status=500), times=None)
    async with server.client() as client:
        ended = await image(client)
        assert "status 500" in ended["warnings"][0]
        await anyio.sleep(86_400)
        assert asked(server, "zsky", "download") == 6
        again = await call(client, "zsky_check_job", job_id=ended["job_id"], wait_seconds=0)
        assert len([w for w in again["warnings"] if "was not downloaded" in w]) == 1


async def test_an_endless_body_ends(clock: Callable[[], float], tmp_path: Path) -> None:
    server = rig(clock, tmp_path)
    serve(server, Fault(kind="huge", size=2**40))
    async with server.client() as client:
        ended = await image(client)
    assert "was not downloaded" in ended["warnings"][0]
    assert files_in(server.results) == []


async def test_on_demand_nothing_is_downloaded_before_somebody_looks(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path, environment={"DARKROOM_RESULTS__DOWNLOAD": "on_demand"})
    async with server.client() as client:
        ended = await image(client)
        assert "url" in ended["outputs"][0]
        assert files_in(server.results) == []
        await client.call_tool("show_results", {"job_ids": [ended["job_id"]]})
        again = await call(client, "zsky_check_job", job_id=ended["job_id"])
        assert file_of(again).exists()


async def test_never_means_that_nothing_is_downloaded(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path, environment={"DARKROOM_RESULTS__DOWNLOAD": "never"})
    async with server.client() as client:
        ended = await image(client)
        result = await client.call_tool("show_results", {"job_ids": [ended["job_id"]]})
        assert "[results] download" in str(result.content[0])
        assert ended["outputs"][0]["url"] in str(result.content[0])
    assert files_in(server.results) == []
    assert asked(server, "zsky", "download") == 0


async def a_picture(server: Rig, clock: Callable[[], float], folder: Path) -> bytes:
    """Return what the store of ZSky has for a prompt."""
    async with rig(clock, folder, sandbox=server.sandbox).client() as client:
        return await inline(file_of(await image(client)).read_bytes)


async def test_half_a_picture_is_not_kept_and_fetched_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path / "one")
    whole = await a_picture(server, clock, tmp_path / "other")
    serve(server, Fault(kind="status", status=200, body=whole[: len(whole) // 2]))
    async with server.client() as client:
        ended = await image(client)
        assert "only a part of the file came" in ended["warnings"][0]
        assert "url" in ended["outputs"][0]
        assert files_in(server.results) == []
        await anyio.sleep(60)
        again = await call(client, "zsky_check_job", job_id=ended["job_id"], wait_seconds=0)
        assert "warnings" not in again
        assert await inline(file_of(again).read_bytes) == whole


async def test_two_different_halves_are_two_failed_tries(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path / "one")
    whole = await a_picture(server, clock, tmp_path / "other")
    for share in (2, 3):
        serve(server, Fault(kind="status", status=200, body=whole[: len(whole) // share]))
    async with server.client() as client:
        ended = await image(client)
        await anyio.sleep(600)
        again = await call(client, "zsky_check_job", job_id=ended["job_id"], wait_seconds=0)
        assert "warnings" not in again
        assert await inline(file_of(again).read_bytes) == whole


async def test_a_file_that_has_no_end_at_the_provider_is_kept_with_a_warning(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path / "one")
    whole = await a_picture(server, clock, tmp_path / "other")
    serve(server, Fault(kind="status", status=200, body=whole[:-20]), times=None)
    async with server.client() as client:
        ended = await image(client)
        await anyio.sleep(600)
        again = await call(client, "zsky_check_job", job_id=ended["job_id"], wait_seconds=0)
        assert again["warnings"] == [
            "output 0 may be incomplete: its file has no end, and came so twice"
        ]
        assert await inline(file_of(again).read_bytes) == whole[:-20]
        await anyio.sleep(86_400)
    assert asked(server, "zsky", "download") == 2 + 1, "the other server's, and twice"


def flooding(outputs: int) -> Catalogue:
    """Return our catalogue with a ZSky that answers with many pictures for one."""

    def reading(operation: Operation) -> Operation:
        if not isinstance(operation, JobOperation) or operation.name != "zsky_start_image":
            return operation
        read = operation.state.read

        def many(response: Response) -> State:
            state = read(response)
            each = [replace(o, index=n) for o in state.outputs for n in range(outputs)]
            return replace(state, outputs=tuple(each))

        return replace(operation, state=replace(operation.state, read=many))

    providers = [
        replace(each, operations=tuple(map(reading, each.operations)))
        for each in CATALOGUE.providers
    ]
    return replace(CATALOGUE, providers=tuple(providers))


async def test_a_job_of_one_request_has_a_bounded_number_of_outputs(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path, catalogue=flooding(3_000))
    async with server.client() as client:
        job = await image(client)
    assert job["more_outputs"] + len(job["outputs"]) == MOST_OUTPUTS
    assert any("2936 results more" in each for each in job["warnings"])
    assert asked(server, "zsky", "download") == MOST_OUTPUTS


async def test_the_files_of_a_job_together_have_a_bounded_size(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = rig(clock, tmp_path, catalogue=flooding(8))
    async with server.client() as client:
        size = file_of(await image(client)).stat().st_size
        monkeypatch.setattr(downloads, "LARGEST_FILE_BYTES", 3 * size)
        monkeypatch.setattr(downloads, "FURTHER_BYTES", 0)
        job = await image(client, seed=8)
        again = await call(client, "zsky_check_job", job_id=job["job_id"], wait_seconds=40)
    kept = [name for name in files_in(tmp_path) if name.endswith((".png", ".jpg", ".webp"))]
    assert 8 + 2 <= len(kept) <= 8 + 4
    assert any("larger than they may be together" in each for each in again["warnings"])
