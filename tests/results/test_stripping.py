"""What leaves with a picture or a video: what is seen and heard, and nothing else."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from darkroom.results.stripping import stripped

SECRET = b"48.8584N 2.2945E"


def box(name: bytes, *inside: bytes) -> bytes:
    body = b"".join(inside)
    return struct.pack(">I", 8 + len(body)) + name + body


def track(kind: bytes) -> bytes:
    times = b"\0" * 4 + b"\x11" * 8
    handler = box(b"hdlr", b"\0" * 8 + kind + b"\0" * 13)
    return box(
        b"trak",
        box(b"tkhd", times, b"\0" * 72),
        box(b"mdia", box(b"mdhd", times, b"\0" * 12), handler),
    )


def movie(*kinds: bytes) -> bytes:
    times = b"\0" * 4 + b"\x11" * 8
    tracks = [track(kind) for kind in kinds]
    inside = [box(b"mvhd", times, b"\0" * 88), *tracks, box(b"udta", SECRET)]
    return box(b"ftyp", b"isom") + box(b"moov", *inside) + box(b"mdat", b"frames")


@pytest.mark.parametrize("kind", [b"meta", b"tmcd", b"camm", b"text"])
def test_a_video_with_a_track_of_its_own_data_is_not_let_through(kind: bytes) -> None:
    assert stripped(movie(b"vide", b"soun", kind), "video/mp4") is None


def test_a_video_keeps_its_length_and_its_frames_and_loses_place_and_times() -> None:
    data = movie(b"vide", b"soun")
    plain = stripped(data, "video/mp4")
    assert plain is not None
    assert len(plain) == len(data)
    assert plain.endswith(box(b"mdat", b"frames"))
    assert SECRET not in plain
    assert b"\x11" not in plain


def encoded(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("name", [b"caBX", b"prVt", b"tEXt", b"eXIf"])
def test_a_png_keeps_no_chunk_that_its_pixels_do_not_need(name: bytes) -> None:
    data = encoded("PNG")
    at = data.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(SECRET)) + name + SECRET + b"\0\0\0\0"
    plain = stripped(data[:at] + chunk + data[at:], "image/png")
    assert plain == data


@pytest.mark.parametrize("name", [b"C2PA", b"XMP ", b"EXIF"])
def test_a_webp_keeps_no_chunk_that_its_pixels_do_not_need(name: bytes) -> None:
    data = encoded("WEBP")
    chunk = name + struct.pack("<I", len(SECRET)) + SECRET
    longer = data[:4] + struct.pack("<I", len(data) - 8 + len(chunk)) + data[8:] + chunk
    assert stripped(longer, "image/webp") == data
