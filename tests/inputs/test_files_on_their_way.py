"""What leaves: the right bytes, each once, for as long as a job needs them."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING, cast

import anyio
import httpx2
import pytest
from PIL import Image

from tests.harness import call, inline
from tests.inputs.support import CAMERA, GPS, bucket_rig, picture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from mcp import Client

pytestmark = pytest.mark.anyio

MODEL = "https://samples.sandbox.test/model-1.jpg"
HOUR = 3_600


async def start(
    client: Client, garment: str = "shirt.jpg", *, model: str = MODEL
) -> dict[str, Any]:
    return await call(
        client, "zupertry_start_tryon", model_image_url=model, garment_image_url=garment
    )


async def finish(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    while job["status"] in {"queued", "running"}:
        job = await call(client, "zupertry_check_tryon", job_id=job["job_id"], wait_seconds=40)
    return job


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 6])
async def test_a_picture_leaves_upright_and_without_its_place(
    clock: Callable[[], float], tmp_path: Path, kind: str, orientation: int
) -> None:
    rig = bucket_rig(clock, tmp_path)
    content = picture(kind, (320, 240), orientation=orientation, place=True)
    (tmp_path / "photos" / "shirt.jpg").write_bytes(content)
    left: list[bytes] = []
    rig.sandbox.bucket.fault = lambda method, key: (
        left.append(rig.sandbox.bucket.objects[key][0]) if method == "DELETE" else None
    )
    with anyio.fail_after(HOUR):
        async with rig.client() as client:
            done = await finish(client, await start(client))
            assert done["status"] == "completed"
            await anyio.sleep(5)
    (sent,) = left
    with Image.open(io.BytesIO(sent)) as image:
        assert image.format == kind
        exif = image.getexif()
        assert GPS not in exif
        assert CAMERA not in exif
        assert image.size == ((320, 240) if orientation == 1 else (240, 320))
        # the upper left corner of the stored picture lies on the upper right, once it is turned
        corner = (5, 5) if orientation == 1 else (image.width - 5, 5)
        red, green, blue = cast("tuple[int, int, int]", image.convert("RGB").getpixel(corner))
        assert red > 200
        assert green > 200
        assert blue < 100
    if orientation == 1:  # not decoded and written anew: the pixels are the very same
        with Image.open(io.BytesIO(content)) as before, Image.open(io.BytesIO(sent)) as after:
            assert before.convert("RGB").tobytes() == after.convert("RGB").tobytes()


async def test_two_starts_share_an_upload_and_the_last_one_to_end_deletes_it(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    rig = bucket_rig(clock, tmp_path)
    (tmp_path / "photos" / "shirt.jpg").write_bytes(picture())
    with anyio.fail_after(HOUR):
        async with rig.client() as client:
            one = await start(client)
            two = await start(
                client,
                garment=str(tmp_path / "photos" / "shirt.jpg"),
                model=MODEL.replace("1", "2"),
            )
            assert one["job_id"] != two["job_id"]
            assert sum(each.method == "PUT" for each in rig.sandbox.bucket.requests) == 1
            await finish(client, one)
            await finish(client, two)
            await anyio.sleep(5)
            assert rig.sandbox.bucket.objects == {}
            three = await start(client, model=MODEL.replace("1", "3"))  # it goes up again
            assert len(rig.sandbox.bucket.objects) == 1
            await finish(client, three)
            await anyio.sleep(5)
    assert rig.sandbox.bucket.objects == {}


async def test_another_picture_under_the_same_path_is_another_intent(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    rig = bucket_rig(clock, tmp_path)
    path = tmp_path / "photos" / "shirt.jpg"
    path.write_bytes(picture(seed=1))
    with anyio.fail_after(HOUR):
        async with rig.client() as client:
            one = await start(client)
            again = await start(client)
            renamed = path.with_name("other.jpg")
            shutil.copy(path, renamed)
            same = await start(client, garment="other.jpg")
            path.write_bytes(picture(seed=2))
            other = await start(client)
    assert one["job_id"] == again["job_id"] == same["job_id"] != other["job_id"]


async def test_a_picture_that_is_too_large_is_made_smaller_only_where_the_person_allows_it(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    rig = bucket_rig(clock, tmp_path, environment={"DARKROOM_INPUTS__FIT": "true"})
    (tmp_path / "photos" / "shirt.avif").write_bytes(picture("AVIF"))
    left: list[bytes] = []
    rig.sandbox.bucket.fault = lambda method, key: (
        left.append(rig.sandbox.bucket.objects[key][0]) if method == "DELETE" else None
    )
    with anyio.fail_after(HOUR):
        async with rig.client() as client:
            done = await finish(client, await start(client, garment="shirt.avif"))
            assert any("AVIF, 320 x 240" in each for each in done["warnings"])
            await anyio.sleep(5)
    assert left[0].startswith(b"\xff\xd8\xff")


class _Dies(httpx2.AsyncBaseTransport):
    """Stops the process, as far as the world can tell, before or after its nth request."""

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, step: int, die: Callable[[], None]
    ) -> None:
        self._inner = inner
        self._left = step
        self._die = die
        self.dead = anyio.Event()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await self._tick()
        answer = await self._inner.handle_async_request(request)
        await self._tick()
        return answer

    async def _tick(self) -> None:
        if self._left == 0:
            self._die()
            self.dead.set()
        self._left -= 1
        if self._left < 0:
            await anyio.sleep_forever()


STEPS = 12


@pytest.mark.parametrize("step", range(STEPS))
async def test_killed_at_every_step_nothing_is_paid_twice_and_nothing_is_left_in_the_bucket(
    clock: Callable[[], float], tmp_path: Path, step: int
) -> None:
    first_folder, second_folder = tmp_path / "first", tmp_path / "second"
    first_folder.mkdir()
    second_folder.mkdir()
    photos = {"DARKROOM_INPUTS__ROOTS": f'["{tmp_path}"]'}
    whole = bucket_rig(clock, first_folder, store="sqlite", environment=photos)
    (tmp_path / "shirt.jpg").write_bytes(picture())

    def die() -> None:
        shutil.copytree(first_folder / "state", second_folder / "state")

    way = _Dies(whole.sandbox.transport(), step, die)
    first = bucket_rig(
        clock,
        first_folder,
        store="sqlite",
        environment=photos,
        sandbox=whole.sandbox,
        transport=way,
    )
    with anyio.fail_after(HOUR):
        async with first.client() as client, anyio.create_task_group() as tasks:

            async def run() -> None:
                await finish(client, await start(client))
                await anyio.sleep(5)

            tasks.start_soon(run)
            with anyio.move_on_after(600):
                await way.dead.wait()
            tasks.cancel_scope.cancel()
    assert way.dead.is_set()
    second = bucket_rig(
        clock, second_folder, store="sqlite", environment=photos, sandbox=whole.sandbox
    )
    with anyio.fail_after(HOUR):
        async with second.client() as client:
            await inline(lambda: None)
            (job,) = (await call(client, "list_jobs"))["jobs"]
            job = await finish(client, job)
            await anyio.sleep(120)
    emulator = whole.sandbox.emulators["zupertry"]
    assert len(emulator.charges) <= 1
    if job["status"] == "unknown":  # the provider may have it, and fetch its picture
        assert sum(each.operation == "submit_tryon" for each in emulator.requests) <= 1
        return
    assert job["status"] == "completed", job
    assert whole.sandbox.bucket.objects == {}


async def test_a_file_that_another_process_has_deleted_goes_up_again(
    clock: Callable[[], float], tmp_path: Path
) -> None:
    one = bucket_rig(clock, tmp_path, store="sqlite")
    other = bucket_rig(clock, tmp_path, store="sqlite", sandbox=one.sandbox)
    (tmp_path / "photos" / "shirt.jpg").write_bytes(picture())
    bucket = one.sandbox.bucket
    with anyio.fail_after(HOUR):
        async with one.client() as here, other.client() as there:
            first = await start(here)
            second = await start(there, model=MODEL.replace("1", "2"))
            assert len(bucket.objects) == 1
            await finish(here, first)
            await anyio.sleep(5)
            await finish(there, second)
            await anyio.sleep(5)
            assert bucket.objects == {}
            third = await start(here, model=MODEL.replace("1", "3"))
            assert len(bucket.objects) == 1  # not the address of what is gone
            await finish(here, third)
            await anyio.sleep(5)
    assert bucket.objects == {}
