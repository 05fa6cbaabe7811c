"""Addresses die; the provider is asked for another one, and only what is truly gone is expired."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from darkroom_tools.emulators.kit import Fault
from tests.harness import Rig, call, refused, rig, text_of
from tests.results.support import DAY, HOUR, asked, file_of, files_in, image, shown, tryon

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

ON_DEMAND = {"DARKROOM_RESULTS__DOWNLOAD": "on_demand"}


def demanding(clock: Callable[[], float], folder: Path) -> Rig:
    return rig(clock, folder, environment={**ON_DEMAND, "DARKROOM_FILES__ROOTS": f'["{folder}"]'})


async def test_zsky_signs_again_for_seven_days(clock: Callable[[], float], tmp_path: Path) -> None:
    server = demanding(clock, tmp_path)
    async with server.client() as client:
        ended = await image(client)
        before = ended["outputs"][0]["url"]
        await anyio.sleep(6 * DAY)
        again = await call(client, "zsky_check_job", job_id=ended["job_id"])
        assert again["outputs"][0]["url"] != before
        await shown(client, job_ids=[ended["job_id"]])
    assert "zsky-lighthouse-at-dusk-1.webp" in files_in(server.results)


async def test_after_seven_days_a_zsky_result_has_expired(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = demanding(clock, tmp_path)
    async with server.client() as client:
        ended = await image(client)
        await anyio.sleep(8 * DAY)
        result = await shown(client, job_ids=[ended["job_id"]])
        assert "it has expired" in text_of(result)
        again = await call(client, "zsky_check_job", job_id=ended["job_id"])
        assert "no longer has it" in again["warnings"][0]
        error = await refused(client, "save_results", job_ids=[ended["job_id"]], to="a/")
        assert error.startswith("[expired]")


async def test_zupertry_gives_a_fresh_address_after_its_hour(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = demanding(clock, tmp_path)
    async with server.client() as client:
        ended = await tryon(client, server)
        await anyio.sleep(2 * HOUR)
        await shown(client, job_ids=[ended["job_id"]])
        again = await call(client, "zupertry_check_tryon", job_id=ended["job_id"])
        assert file_of(again).exists()


async def test_an_address_that_lives_is_not_asked_for_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = demanding(clock, tmp_path)
    async with server.client() as client:
        ended = await image(client)
        questions = asked(server, "zsky", "get_job")
        await anyio.sleep(23 * HOUR)
        await call(client, "zsky_check_job", job_id=ended["job_id"])
        await shown(client, job_ids=[ended["job_id"]])
        assert asked(server, "zsky", "get_job") == questions


async def test_an_address_that_died_early_is_asked_for_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    zsky = server.sandbox.emulators["zsky"]
    zsky.faults.add("download", Fault(kind="status", status=403))
    async with server.client() as client:
        started = await call(client, "zsky_start_image", prompt="A kite", width=256, height=256)
        await anyio.sleep(60)
        ended = await call(client, "zsky_check_job", job_id=started["job_id"])
    assert "warnings" not in ended
    assert file_of(ended).exists()


async def test_a_provider_that_cannot_be_asked_does_not_make_a_result_expire(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = demanding(clock, tmp_path)
    async with server.client() as client:
        ended = await image(client)
        await anyio.sleep(2 * DAY)
        server.sandbox.emulators["zsky"].faults.add("get_job", Fault(kind="refuse"), times=None)
        result = await shown(client, job_ids=[ended["job_id"]])
        assert "expired" not in text_of(result)
        server.sandbox.emulators["zsky"].faults.clear()
        await shown(client, job_ids=[ended["job_id"]])
    assert "zsky-lighthouse-at-dusk-1.webp" in files_in(server.results)


async def test_a_deleted_result_is_not_fetched(clock: Callable[[], float], tmp_path: Path) -> None:
    never_ask = {"DARKROOM_APPROVAL__NEVER_ASK": '["zsky_delete_result"]'}
    server = rig(clock, tmp_path, environment={**ON_DEMAND, **never_ask})
    async with server.client() as client:
        ended = await image(client)
        await call(client, "zsky_delete_result", job_id=ended["job_id"])
        await shown(client, job_ids=[ended["job_id"]])
    assert asked(server, "zsky", "download") == 0


async def test_a_file_that_is_gone_is_fetched_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = rig(clock, tmp_path)
    async with server.client() as client:
        ended = await image(client)
        path = file_of(ended)
        path.unlink()
        await anyio.sleep(2 * DAY)
        await shown(client, job_ids=[ended["job_id"]])
        assert path.exists()


async def test_a_restart_in_the_middle_of_a_download_goes_on_by_itself(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = rig(clock, tmp_path, store="sqlite")
    first.sandbox.emulators["zsky"].faults.add("download", Fault(kind="hang_after"))
    async with first.client() as client:
        started = await call(client, "zsky_start_image", prompt="A kite", width=256, height=256)
        await anyio.sleep(15)
        stopped = await call(client, "zsky_check_job", job_id=started["job_id"], wait_seconds=0)
        assert stopped["status"] == "completed"
        assert "file" not in stopped["outputs"][0]
    assert files_in(first.results) == []
    await anyio.sleep(2 * DAY)
    second = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with second.client() as client:
        await anyio.sleep(5)
        assert files_in(second.results) == ["zsky-kite-1.webp", "zsky-kite-1.webp.json"]
        listed = await call(client, "list_jobs")
        assert listed["jobs"][0]["outputs"][0]["file"].endswith("zsky-kite-1.webp")


async def test_a_start_fetches_nothing_that_is_final(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    first = rig(clock, tmp_path, store="sqlite")
    page = Fault(kind="status", status=200, body=b"<html>")
    first.sandbox.emulators["zsky"].faults.add("download", page, times=None)
    async with first.client() as client:
        await image(client)
    second = rig(clock, tmp_path, store="sqlite", sandbox=first.sandbox)
    async with second.client():
        await anyio.sleep(60)
    assert asked(first, "zsky", "download") == 1


async def test_after_its_day_a_claid_result_has_expired(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = demanding(clock, tmp_path)
    async with server.client() as client:
        started = await call(
            client,
            "claid_start_image_edit",
            input=server.sandbox.sample("product", 1),
            operations={"resizing": {"width": 128}},
        )
        job_id = started["job_id"]
        ended = await call(client, "claid_check_image_edit", job_id=job_id, wait_seconds=40)
        assert ended["outputs"][0]["expires_at"].startswith("2026-11-23")
        await anyio.sleep(25 * HOUR)
        assert "it has expired" in text_of(await shown(client, job_ids=[job_id]))
        again = await call(client, "claid_check_image_edit", job_id=job_id)
        assert "it has expired at Claid" in again["warnings"][0]
    assert files_in(server.results) == []


async def test_a_zyng_address_states_no_end_and_is_used_as_long_as_it_works(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    server = demanding(clock, tmp_path)
    async with server.client() as client:
        started = await call(
            client,
            "zyng_start_images",
            workflow_details={"operation": "grayscale"},
            output_details={"format": "png"},
            images=[{"image_url": server.sandbox.sample("product", 1), "image_name": "cup"}],
        )
        job_id = started["job_id"]
        ended = await call(client, "zyng_check_images", job_id=job_id, wait_seconds=40)
        assert "expires_at" not in ended["outputs"][0]
        await anyio.sleep(30 * DAY)
        await shown(client, job_ids=[job_id])
    assert len(files_in(server.results)) == 2
