"""Removes what a file says about where, when and by whom it was made, without decoding it.

The pixels stay byte for byte the same. What follows the picture (a phone appends a second one, with
its own EXIF) goes too. A format that is not known here is left to whoever
asks: `stripped` says None.
"""

from __future__ import annotations

import struct

_JPEG_KEPT = frozenset({0xE0, 0xEE})
"""JFIF and Adobe's colour transform; of the other APPn only a colour profile is kept."""

_PNG_KEPT = frozenset(
    {
        *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"bKGD", b"pHYs", b"sBIT", b"hIST"),
        *(b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"cLLI"),
        *(b"acTL", b"fcTL", b"fdAT"),
    }
)
"""What the pixels and their colours need; programs put anything else into chunks of their own."""

_WEBP_KEPT = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP"})
_WEBP_FLAGS = 0x08 | 0x04
"""Of VP8X: there is EXIF, there is XMP."""

_MOVIE_DROPPED = frozenset({b"udta", b"meta", b"uuid"})
_MOVIE_PARENTS = frozenset({b"moov", b"trak", b"mdia"})
_MOVIE_TIMES = frozenset({b"mvhd", b"tkhd", b"mdhd"})
_MOVIE_SEEN_AND_HEARD = frozenset({b"vide", b"soun"})
"""Kinds of tracks. Cameras write the place, second by second, into tracks of other kinds."""

_BOX = 8
_LARGE_BOX = 16
_START_OF_SCAN, _END = 0xDA, 0xD9


def stripped(data: bytes, media_type: str) -> bytes | None:
    """Return a file without metadata; None if this format cannot be handled without decoding it.

    Raises
    ------
    ValueError: the file is damaged.
    """
    try:
        match media_type:
            case "image/jpeg":
                return _jpeg(data)
            case "image/png":
                return _png(data)
            case "image/webp":
                return _webp(data)
            case "image/bmp":
                return data
            case "video/mp4" | "video/quicktime":
                return _movie(data)
            case _:
                return None
    except (IndexError, struct.error):
        raise ValueError(media_type) from None


def _jpeg(data: bytes) -> bytes:
    kept = [data[:2]]
    at = 2
    while True:
        if data[at] != 0xFF:  # noqa: PLR2004 -- begins every marker
            raise ValueError("no marker")
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 -- padding
            at += 1
            continue
        if marker == _END:
            kept.append(data[at : at + 2])
            return b"".join(kept)
        length = 2 + struct.unpack_from(">H", data, at + 2)[0]
        end = at + length
        if end > len(data):
            raise ValueError("cut off")
        if marker == _START_OF_SCAN:
            end = _scan_end(data, end)
        application = 0xE0 <= marker <= 0xEF or marker == 0xFE  # noqa: PLR2004 -- APPn, a comment
        profile = marker == 0xE2 and data[at + 4 : at + 16] == b"ICC_PROFILE\0"  # noqa: PLR2004 -- APP2
        if not application or marker in _JPEG_KEPT or profile:
            kept.append(data[at:end])
        at = end


def _scan_end(data: bytes, at: int) -> int:
    """Return where the marker after a scan's data begins."""
    while True:
        at = data.index(b"\xff", at)
        if data[at + 1] != 0 and not 0xD0 <= data[at + 1] <= 0xD7:  # noqa: PLR2004 -- restarts
            return at
        at += 2


def _png(data: bytes) -> bytes:
    kept = [data[:8]]
    at = 8
    while True:
        length: int = struct.unpack_from(">I", data, at)[0]
        name, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise ValueError("cut off")
        if name in _PNG_KEPT:
            kept.append(data[at:end])
        if name == b"IEND":
            return b"".join(kept)
        at = end


def _webp(data: bytes) -> bytes:
    whole = 8 + struct.unpack_from("<I", data, 4)[0]
    if whole > len(data):
        raise ValueError("cut off")
    kept: list[bytes] = []
    at = 12
    while at + 8 <= whole:
        name = data[at : at + 4]
        size: int = struct.unpack_from("<I", data, at + 4)[0]
        end = at + 8 + size + size % 2
        chunk = data[at:end]
        if name == b"VP8X":
            chunk = chunk[:8] + bytes([chunk[8] & ~_WEBP_FLAGS]) + chunk[9:]
        if name in _WEBP_KEPT:
            kept.append(chunk)
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _movie(data: bytes) -> bytes | None:
    """Turn the boxes that name a place into free space; nothing moves, so that offsets hold.

    None: it has a track that is neither picture nor sound, whose content cannot be told apart here.
    """
    changed = bytearray(data)
    parents = [(0, len(data))]
    while parents:
        at, end = parents.pop()
        while at + _BOX <= end:
            size: int = struct.unpack_from(">I", data, at)[0]
            name, head = data[at + 4 : at + 8], _BOX
            if size == 1:
                size, head = struct.unpack_from(">Q", data, at + 8)[0], _LARGE_BOX
            elif size == 0:
                size = end - at
            if size < head or at + size > end:
                raise ValueError("cut off")
            if name in _MOVIE_DROPPED:
                changed[at + 4 : at + 8] = b"free"
                changed[at + head : at + size] = bytes(size - head)
            elif name in _MOVIE_TIMES:
                times = 16 if data[at + head] == 1 else 8  # by the version of the box
                changed[at + head + 4 : at + head + 4 + times] = bytes(times)
            elif name == b"hdlr" and data[at + head + 8 : at + head + 12] not in (
                _MOVIE_SEEN_AND_HEARD
            ):
                return None
            elif name in _MOVIE_PARENTS:
                parents.append((at + head, at + size))
            at += size
    return bytes(changed)
