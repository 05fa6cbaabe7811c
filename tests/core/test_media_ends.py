"""Half a picture is told from a whole one, whatever its kind; nothing is decoded for it."""

from __future__ import annotations

import io
import random
import struct

import pytest
from PIL import Image

from darkroom.core.media_ends import is_whole
from darkroom.core.media_types import sniff_media_type


def noise(side: int = 64) -> Image.Image:
    values = random.Random(7).randbytes(side * side * 3)  # noqa: S311 -- repeatable, not secret
    return Image.frombytes("RGB", (side, side), values)


def encoded(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    noise().save(file, kind, **options)
    return file.getvalue()


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def large_box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content


def film(*boxes: bytes) -> bytes:
    return box(b"ftyp", b"isom\0\0\0\0isom") + b"".join(boxes)


def webm(size: bytes, content: bytes) -> bytes:
    head = b"\x1aE\xdf\xa3" + b"\x87" + b"\x42\x82\x84webm"
    return head + b"\x18\x53\x80\x67" + size + content


EXIF = Image.Exif()
EXIF[0x010E] = "a thumbnail may end here: \xff\xd9"
FILES = {
    "jpeg": encoded("JPEG", quality=90),
    "progressive jpeg": encoded("JPEG", progressive=True, exif=EXIF),
    "jpeg with restarts": encoded("JPEG", restart_marker_rows=1),
    "png": encoded("PNG"),
    "gif": encoded("GIF"),
    "gif film": encoded("GIF", save_all=True, append_images=[noise(32), noise(48)]),
    "webp": encoded("WEBP"),
    "lossless webp": encoded("WEBP", lossless=True),
    "bmp": encoded("BMP"),
    "avif": encoded("AVIF"),
    "film, index last": film(box(b"mdat", b"\1" * 900), box(b"moov", b"\2" * 90)),
    "film, index first": film(box(b"moov", b"\2" * 90), large_box(b"mdat", b"\1" * 900)),
    "webm": webm(b"\x41\xf4", b"\3" * 500),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
def test_a_whole_file_is_whole_and_no_part_of_it_is(data: bytes) -> None:
    kind = sniff_media_type(data) or ""
    assert is_whole(data, kind)
    for cut in {len(data) // 2, len(data) * 9 // 10, len(data) - 20, len(data) - 1}:
        assert not is_whole(data[:cut], kind), cut


@pytest.mark.parametrize("name", ["jpeg", "png", "gif", "webp", "film, index last", "webm"])
def test_what_follows_the_end_changes_nothing(name: str) -> None:
    data = FILES[name]
    assert is_whole(data + b"\0" * 24, sniff_media_type(data) or "")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"II*\0" + b"\0" * 30, "image/tiff"),
        (webm(b"\x01" + b"\xff" * 7, b"\3" * 50), "video/webm"),
        (film(box(b"moov", b""), struct.pack(">I4s", 0, b"mdat") + b"\1" * 9), "video/mp4"),
    ],
    ids=["tiff", "a live webm", "a film whose last box has no length"],
)
def test_what_states_no_end_counts_as_whole(data: bytes, kind: str) -> None:
    assert is_whole(data, kind)


def test_no_bytes_upset_the_walk() -> None:
    chance = random.Random(11)  # noqa: S311 -- as above
    for data in FILES.values():
        kind = sniff_media_type(data) or ""
        for _ in range(200):
            broken = bytearray(data)
            for _ in range(8):
                broken[chance.randrange(12, len(broken))] = chance.randrange(256)
            is_whole(bytes(broken), kind)
