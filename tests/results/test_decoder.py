"""Pictures of strangers: what exceeds a limit, or breaks a decoder, costs only its own picture."""

from __future__ import annotations

import io
import os
import struct
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio
import pytest
from PIL import Image

from darkroom.core.executor import worker_thread
from darkroom.results import decoder as decoding
from darkroom.results import preview
from darkroom.results.decoder import Child, Decoder
from darkroom.results.problems import NoPictureError
from tests.harness import call, inline, rig, text_of
from tests.results.support import file_of, image, pictures, shown
from tests.results.test_show import decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from darkroom.results.preview import SaveFormat

pytestmark = pytest.mark.anyio

CARD = pytest.approx((229, 226, 220), abs=3)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def many_scans(side: int, scans: int) -> bytes:
    """Return a small progressive JPEG that repeats its last scan: each one visits every block."""
    data = encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=30)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def broken_avif() -> bytes:
    """Return an AVIF with a head in order and an empty body: its decoder raises RuntimeError."""
    data = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "AVIF")
    body = data.index(b"mdat") + 4
    return data[:body] + bytes(len(data) - body)


SOUND = encoded(Image.new("RGB", (300, 200), "teal"), "PNG")
SLOW = many_scans(6_000, 1_500)


class Started:
    """Starts children, and remembers them."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.first = threading.Event()

    def __call__(self) -> Child:
        self.children.append(Child())
        self.first.set()
        return self.children[-1]

    def running(self) -> list[int]:
        return [child.pid for child in self.children if _runs(child.pid)]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def started() -> Iterator[Started]:
    started = Started()
    yield started
    assert started.running() == [], "a child outlived the pictures that it was for"


def opening(data: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(data)


async def test_one_child_makes_the_pictures_of_a_call_and_ends_with_it(started: Started) -> None:
    async with Decoder(inline, started).session() as session:
        assert started.children == []
        for _ in range(3):
            made = await session.thumbnail(opening(SOUND), "image/png", 150)
            assert (made.size, made.getpixel((1, 1))) == ((150, 100), (0, 128, 128))
        assert len(started.running()) == 1


async def test_a_picture_that_takes_too_long_is_given_up_and_the_next_is_made(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "LONGEST_SECONDS", 1.0)
    async with Decoder(inline, started).session() as session:
        with pytest.raises(NoPictureError, match="more than 1 seconds"):
            await session.thumbnail(opening(SLOW), "image/jpeg", 768)
        monkeypatch.setattr(
            decoding, "LONGEST_SECONDS", 60.0
        )  # a busy machine starts a process slowly
        assert (await session.thumbnail(opening(SOUND), "image/png", 30)).size == (30, 20)
    assert len(started.children) == 2


async def test_all_pictures_of_a_call_together_leave_time_for_an_answer(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "LONGEST_SECONDS", 1.0)
    monkeypatch.setattr(decoding, "CALL_SECONDS", 1.5)
    monkeypatch.setattr(decoding, "LEAST_SECONDS", 0.5)
    async with Decoder(inline, started).session() as session:
        for seconds in ("1", "0.5", "0.5"):
            with pytest.raises(NoPictureError, match=rf"more than {seconds}\d* seconds"):
                await session.thumbnail(opening(SLOW), "image/jpeg", 768)
        monkeypatch.setattr(
            decoding, "LEAST_SECONDS", 10.0
        )  # a busy machine starts a process slowly
        await session.thumbnail(opening(SOUND), "image/png", 30)
        monkeypatch.setattr(decoding, "LAST_SECONDS", 2.0)
        with pytest.raises(NoPictureError, match="ask for it alone"):
            await session.thumbnail(opening(SOUND), "image/png", 30)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of this kind")
async def test_a_picture_that_takes_too_much_memory_is_given_up(started: Started) -> None:
    small = bytearray(encoded(Image.new("RGB", (64, 64), "teal"), "JPEG", progressive=True))
    frame = small.index(b"\xff\xc2") + 5
    small[frame : frame + 4] = struct.pack(">HH", 13_000, 13_000)
    large = encoded(Image.new("RGBA", (7_000, 7_000), "teal"), "PNG", compress_level=1)
    async with Decoder(inline, started).session() as session:
        with pytest.raises(NoPictureError, match=r"memory|damaged"):
            await session.thumbnail(opening(bytes(small)), "image/jpeg", 768)
        with pytest.raises(NoPictureError, match=r"more than 512 MB of memory"):
            await session.convert(opening(large), "WEBP")
        await session.thumbnail(opening(SOUND), "image/png", 30)
        status = f"/proc/{started.children[-1].pid}/status"
        if os.path.exists(status):  # noqa: ASYNC240, PTH110 -- of the system, at once
            with open(status) as lines:  # noqa: ASYNC230, PTH123 -- as above
                peak = next(line for line in lines if line.startswith("VmPeak"))
            assert int(peak.split()[1]) <= 512 * 1024


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_caller_who_goes_away_ends_the_work_at_once(started: Started) -> None:
    with anyio.fail_after(decoding.LONGEST_SECONDS), anyio.move_on_after(1.0) as scope:
        async with Decoder(worker_thread(), started).session() as session:
            await session.thumbnail(opening(SLOW), "image/jpeg", 768)
    assert scope.cancelled_caught


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_slow_picture_of_one_call_holds_up_no_other_call(started: Started) -> None:
    decoder = Decoder(anyio.to_thread.run_sync, started)

    async def slow() -> None:
        async with decoder.session() as session:
            await session.thumbnail(opening(SLOW), "image/jpeg", 768)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slow)
            await anyio.to_thread.run_sync(started.first.wait)
            async with decoder.session() as session:
                assert (await session.thumbnail(opening(SOUND), "image/png", 30)).size == (30, 20)
            tasks.cancel_scope.cancel()


async def test_a_child_knows_no_key(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSKY_API_KEY", "zsky_live_secret")
    async with Decoder(inline, started).session() as session:
        await session.thumbnail(opening(SOUND), "image/png", 30)
        if os.path.exists("/proc/self/environ"):  # noqa: ASYNC240, PTH110 -- of the system, at once
            environ = open(f"/proc/{started.children[0].pid}/environ", "rb")  # noqa: ASYNC230, PTH123, SIM115 -- as above
            with environ:
                assert b"zsky_live_secret" not in environ.read()


async def test_no_decoder_error_is_more_than_a_card_for_its_picture(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"a boat": (broken_avif(), "image/avif"), "a kite": (SLOW, "image/jpeg")}
    kept, patience = decoding.Session.thumbnail, decoding.LONGEST_SECONDS

    async def swapped(
        self: decoding.Session, open_file: Callable[[], BinaryIO], media_type: str, side: int
    ) -> Image.Image:
        with open_file() as file:
            prompt = prompts[file.read()]
        data, media_type = bad.get(prompt, (None, media_type))
        # Only for the slow one: a busy machine needs longer than this for a good picture, too.
        monkeypatch.setattr(decoding, "LONGEST_SECONDS", 1.0 if prompt == "a kite" else patience)
        return await kept(self, opening(data) if data else open_file, media_type, side)

    monkeypatch.setattr(decoding.Session, "thumbnail", swapped)
    async with rig(clock, tmp_path).client() as client:
        jobs = {prompt: await image(client, prompt) for prompt in ("a boat", "a kite", "a lake")}
        prompts = {file_of(job).read_bytes(): prompt for prompt, job in jobs.items()}
        result = await shown(client, job_ids=[job["job_id"] for job in jobs.values()])
    corners = [decoded(each.data).convert("RGB").getpixel((2, 2)) for each in pictures(result)]
    assert corners[:2] == [CARD, CARD]
    assert corners[2] != CARD
    assert len(text_of(result).splitlines()) == 3


async def test_a_broken_avif_is_no_picture(started: Started) -> None:
    async with Decoder(inline, started).session() as session:
        with pytest.raises(NoPictureError, match=r"damaged|cannot be read"):
            await session.thumbnail(opening(broken_avif()), "image/avif", 100)


async def test_a_saved_picture_that_cannot_be_converted_names_the_reason(
    clock: Callable[[], float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*_: object) -> bytes:
        raise NoPictureError("the picture is damaged")

    monkeypatch.setattr(decoding.Session, "convert", failing)
    roots = {"DARKROOM_FILES__ROOTS": f'["{tmp_path}"]'}
    async with rig(clock, tmp_path, environment=roots).client() as client:
        job = await image(client)
        result = await client.call_tool(
            "save_results", {"job_ids": [job["job_id"]], "to": str(tmp_path / "hero.png")}
        )
        assert "the picture is damaged" in text_of(result)
        assert not (tmp_path / "hero.png").exists()
        await call(client, "list_jobs")


# --- what is in the file is what is shown -------------------------------------------------------


def grey16(values: list[int]) -> bytes:
    picture = Image.frombytes("I;16", (len(values), 1), struct.pack(f"<{len(values)}H", *values))
    return encoded(picture, "PNG")


def saved_as(kind: SaveFormat) -> Callable[[bytes], bytes]:
    return lambda data: preview.convert(io.BytesIO(data), kind)


def small(data: bytes) -> bytes:
    return encoded(preview.thumbnail(io.BytesIO(data), "image/png", 4), "PNG")


@pytest.mark.parametrize("make", [saved_as("PNG"), saved_as("WEBP"), small])
def test_grey_of_sixteen_bits_keeps_its_tones(make: Callable[[bytes], bytes]) -> None:
    made = Image.open(io.BytesIO(make(grey16([0, 0x4000, 0x8000, 0xFFFF])))).convert("L")
    assert list(made.tobytes()) == pytest.approx([0, 64, 128, 255], abs=3)


def test_wide_values_without_a_stated_range_use_the_whole_range() -> None:
    floats = Image.frombytes("F", (3, 1), struct.pack("<3f", -1.0, 0.0, 1.0))
    made = preview.convert(io.BytesIO(encoded(floats, "TIFF")), "PNG")
    grey = Image.open(io.BytesIO(made)).convert("L")
    assert list(grey.tobytes()) == pytest.approx([0, 128, 255], abs=2)
