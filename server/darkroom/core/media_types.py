"""Media type, size in pixels and extension of a file, from its first bytes."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
    "image/tiff": "tif",
    "image/bmp": "bmp",
    "image/heic": "heic",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
}
MEDIA_TYPES = {
    **{extension: media_type for media_type, extension in EXTENSIONS.items()},
    "jpeg": "image/jpeg",
    "tiff": "image/tiff",
}
"""By extension, lower case, without the dot."""

PART_PREFIX, PART_SUFFIX = ".darkroom-", ".part"
"""The name of a file that is still being written begins and ends like this."""

_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)
_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"qt  ": "video/quicktime",
    b"isom": "video/mp4",
    b"iso2": "video/mp4",
    b"iso4": "video/mp4",
    b"iso5": "video/mp4",
    b"iso6": "video/mp4",
    b"mp41": "video/mp4",
    b"mp42": "video/mp4",
    b"avc1": "video/mp4",
    b"M4V ": "video/mp4",
    b"M4A ": "audio/mp4",
}
"""Brands of the ISO base media file format; the first known one of a file decides."""
_BMP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})
_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_QUARTER_TURNS = frozenset({5, 6, 7, 8})
_BRANDS_END = 256
_EBML_HEAD = 256
"""Its sizes may be written with 8 bytes each."""


def sniff_media_type(head: bytes) -> str | None:
    """Return the media type of a file from its first bytes; None if it is not a known one."""
    for magic, media_type in _MAGIC:
        if head.startswith(magic):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "image/bmp"
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4]), _BRANDS_END)
        brands = (head[8:12], *(head[at : at + 4] for at in range(16, end, 4)))
        return next((_BRANDS[brand] for brand in brands if brand in _BRANDS), None)
    if head[:4] == b"\x1aE\xdf\xa3" and b"webm" in head[:_EBML_HEAD]:
        return "video/webm"
    return None


def pixel_size(head: bytes, media_type: str) -> tuple[int, int] | None:
    """Read width and height of the picture as it is shown; None where that is not simple.

    A head that ends before the orientation is stated (WebP states it last) says nothing of it.
    """
    reader = _SIZE_READERS.get(media_type)
    try:
        size = reader(head) if reader else None
    except (struct.error, IndexError):  # the header ends early
        return None
    if not size or not all(size):
        return None
    width, height = size
    return (height, width) if _lies(head, media_type) else size


def _lies(head: bytes, media_type: str) -> bool:
    """Tell whether the picture is turned by a quarter before it is shown."""
    match media_type:
        case "image/jpeg":
            exif = _jpeg_exif(head)
        case "image/png":
            exif = _chunk(head, 8, b"eXIf", ">")
        case "image/webp":
            exif = _chunk(head, 12, b"EXIF", "<")
        case "image/avif" | "image/heic":
            turned = re.search(rb"\0\0\0\x09irot(.)", head, re.DOTALL)
            return turned is not None and turned[1][0] % 2 == 1
        case _:
            return False
    try:
        return exif is not None and _orientation(exif) in _QUARTER_TURNS
    except struct.error:  # it ends early
        return False


def _jpeg_exif(head: bytes) -> bytes | None:
    at = 2
    while head[at : at + 1] == b"\xff" and at + 4 <= len(head):
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4])
        if marker == 0xE1 and head[at + 4 : at + 10] == _EXIF:  # noqa: PLR2004 -- APP1
            return head[at + 10 : at + 2 + length]
        if marker == 0xDA:  # noqa: PLR2004 -- the picture begins
            return None
        at += 1 if marker == 0xFF else 2 + length  # noqa: PLR2004 -- padding
    return None


def _chunk(head: bytes, at: int, wanted: bytes, order: str) -> bytes | None:
    """Return a chunk of a PNG (name after its length, a checksum) or a RIFF file (name first)."""
    png = order == ">"
    while at + 8 <= len(head):
        first, second = head[at : at + 4], head[at + 4 : at + 8]
        name, length = (second, first) if png else (first, second)
        size: int = struct.unpack(f"{order}I", length)[0]
        if name == wanted:
            return head[at + 8 : at + 8 + size].removeprefix(_EXIF)
        at += 8 + size + (4 if png else size % 2)
    return None


def _orientation(exif: bytes) -> int:
    """Return the orientation that EXIF states, 1 (upright) to 8."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    start: int = struct.unpack_from(f"{order}I", exif, 4)[0]
    count: int = struct.unpack_from(f"{order}H", exif, start)[0]
    for entry in range(count):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + entry * 12)
        if tag == _ORIENTATION_TAG:
            return value
    return 1


def _png_size(head: bytes) -> tuple[int, int] | None:
    return struct.unpack_from(">II", head, 16) if head[12:16] == b"IHDR" else None


def _gif_size(head: bytes) -> tuple[int, int] | None:
    return struct.unpack_from("<HH", head, 6)


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while head[at] == 0xFF:  # noqa: PLR2004 -- begins every marker
        marker = head[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 -- padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # noqa: PLR2004 -- a frame
            height, width = struct.unpack_from(">HH", head, at + 5)
            return width, height
        else:
            at += 2 + struct.unpack_from(">H", head, at + 2)[0]
    return None


def _webp_size(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X":
            width, height = head[24:27], head[27:30]
            return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1
        case b"VP8L":
            bits = struct.unpack_from("<I", head, 21)[0]
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            width, height = struct.unpack_from("<HH", head, 26)
            return width & 0x3FFF, height & 0x3FFF
        case _:
            return None


def _heif_size(head: bytes) -> tuple[int, int] | None:
    # Tiles and thumbnails state their sizes too; the whole picture is the largest.
    boxes = re.finditer(rb"\0\0\0\x14ispe\0\0\0\0(.{8})", head, re.DOTALL)
    sizes: list[tuple[int, int]] = [struct.unpack(">II", box[1]) for box in boxes]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


_SIZE_READERS: dict[str, Callable[[bytes], tuple[int, int] | None]] = {
    "image/png": _png_size,
    "image/gif": _gif_size,
    "image/jpeg": _jpeg_size,
    "image/webp": _webp_size,
    "image/avif": _heif_size,
    "image/heic": _heif_size,
}
