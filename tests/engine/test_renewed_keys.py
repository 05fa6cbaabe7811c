"""A key that is replaced while work is under way: what the old one was refused goes on with the new."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from darkroom_tools.emulators.zyng.emulator import TEST_KEY, ZyngEmulator
from tests.engine.money import arrived, ended, server
from tests.harness import inline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from darkroom_tools.emulators.sandbox import Sandbox
    from tests.faults.process import Process

pytestmark = pytest.mark.anyio

IMAGES = 40
STUDIO = {
    "workflow_details": {"operation": "grayscale"},
    "output_details": {"format": "png"},
}


def variables(path: Path) -> dict[str, str]:
    """Return the variables of a process whose key of Zyng is in a file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(TEST_KEY)
    return {
        "ZYNG_API_KEY": "",
        "ZYNG_API_KEY_FILE": str(path),
        "DARKROOM_ZYNG__WORKFLOWS": json.dumps({"studio": STUDIO}),
        "DARKROOM_RESULTS__DOWNLOAD": "never",
    }


def zyng(sandbox: Sandbox) -> ZyngEmulator:
    return cast("ZyngEmulator", sandbox.emulators["zyng"])


def replace_at(
    one: Process, sandbox: Sandbox, path: Path, task: str, number: int, *, also_file: bool = True
) -> None:
    """Replace the key while the request with this number, of those of its kind, is on its way."""
    way = one.way.handle_async_request
    seen = 0

    async def replaced(request: httpx2.Request) -> httpx2.Response:
        nonlocal seen
        kind = json.loads(request.content)["task"] if request.method == "POST" else "poll"
        seen += request.url.host.startswith("zyng") and kind == task
        if seen == number and kind == task:
            one.way.handle_async_request = way
            zyng(sandbox).replace_key(TEST_KEY, "zyng-replaced")
            if also_file:
                await inline(partial(path.write_text, "zyng-replaced"))
        return await way(request)

    one.way.handle_async_request = replaced


async def start(one: Process, sandbox: Sandbox, number: int = IMAGES) -> str:
    address = sandbox.sample("product", 1)
    images = [{"image_url": address, "image_name": f"image-{n}"} for n in range(number)]
    job = await one.call("zyng_start_images", workflow="studio", images=images)
    return str(job["job_id"])


async def test_all_forty_images_are_made_when_the_key_is_replaced_during_the_fifth(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = tmp_path / "keys" / "zyng.key"
    async with server(clock, tmp_path, None, variables(path)) as (one, sandbox):
        replace_at(one, sandbox, path, "process_image", 5)
        job = await ended(one, "zyng_check_images", await start(one, sandbox))
    assert job["status"] == "completed"
    assert job["progress"] == {"done": IMAGES, "total": IMAGES}
    assert "warnings" not in job
    statuses = [r.status for r in zyng(sandbox).requests if r.operation == "process_image"]
    assert statuses.count(200) == IMAGES  # each image is paid for once
    assert 1 <= statuses.count(401) <= 4  # those that were under way with the old key


async def test_nothing_more_is_sent_once_a_key_is_refused_and_no_other_is_there(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    path = tmp_path / "keys" / "zyng.key"
    async with server(clock, tmp_path, None, variables(path)) as (one, sandbox):
        replace_at(one, sandbox, path, "process_image", 5, also_file=False)
        await start(one, sandbox)
        await anyio.sleep(600)
        statuses = [r.status for r in zyng(sandbox).requests if r.operation == "process_image"]
        assert statuses.count(401) <= 4
        assert arrived(sandbox, "zyng", "process_image") < IMAGES


@pytest.mark.parametrize("task", ["register_request", "poll"])
async def test_a_key_replaced_during_another_request_of_the_job_does_not_end_it(
    clock: Callable[[], float], tmp_path: Path, task: str
) -> None:
    path = tmp_path / "keys" / "zyng.key"
    async with server(clock, tmp_path, None, variables(path)) as (one, sandbox):
        replace_at(one, sandbox, path, task, 1)
        job = await ended(one, "zyng_check_images", await start(one, sandbox, 3))
    assert job["progress"] == {"done": 3, "total": 3}
    assert [r.status for r in zyng(sandbox).requests].count(401) == 1
