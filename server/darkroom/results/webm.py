"""The first frame of a WebM video as a picture, without a video decoder.

A lossy WebP file contains a VP8 key frame (RFC 6386, RFC 9649), so that a key frame becomes a
picture with a new header. The container of WebM is EBML (RFC 8794, RFC 9559).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK_BYTES = 4 * 1024 * 1024
"""Bytes at the beginning of the file in which the first key frame is searched."""

SEGMENT, CLUSTER, BLOCK_GROUP = 0x18538067, 0x1F43B675, 0xA0
TRACKS, TRACK_ENTRY, TRACK_NUMBER, CODEC_ID = 0x1654AE6B, 0xAE, 0xD7, 0x86
SIMPLE_BLOCK, BLOCK = 0xA3, 0xA1
EBML = 0x1A45DFA3

_ENTERED = frozenset({SEGMENT, CLUSTER, BLOCK_GROUP, TRACKS, TRACK_ENTRY})
_BLOCK_HEAD_BYTES = 3
"""After the track number: two bytes of time, one of flags."""

_LACING = 0x06
_START_CODE = b"\x9d\x01\x2a"
VP8 = b"V_VP8"


def first_frame(head: bytes) -> bytes | None:
    """Return the first key frame of a video as a WebP file; None if it is not VP8."""
    track = vp8_track = None
    try:
        for kind, body in _elements(head):
            if kind == TRACK_NUMBER:
                track = int.from_bytes(body)
            elif kind == CODEC_ID and body.rstrip(b"\0") == VP8:
                vp8_track = track
            elif kind in {SIMPLE_BLOCK, BLOCK}:
                number, at = _number(body, 0, keep_marker=False)
                flags = body[at + 2]
                frame = body[at + _BLOCK_HEAD_BYTES :]
                if number == vp8_track and not flags & _LACING and _is_key(frame):
                    return _webp(frame)
    except (IndexError, ValueError):  # the file ends early, or is not WebM
        return None
    return None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the elements that have a value, in order, including those inside other elements."""
    at = 0
    while at < len(data):
        kind, at = _number(data, at, keep_marker=True)
        size, at = _number(data, at, keep_marker=False)
        if kind in _ENTERED:
            continue
        yield kind, data[at : at + size]
        at += size


def _number(data: bytes, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """Read a number of variable length; return it and where it ends."""
    first = data[at]
    length = 9 - first.bit_length()
    if not 1 <= length <= 8:  # noqa: PLR2004 -- the longest that EBML knows
        raise ValueError("no EBML number")
    value = int.from_bytes(data[at : at + length])
    if not keep_marker:
        value &= (1 << (7 * length)) - 1
    return value, at + length


def _is_key(frame: bytes) -> bool:
    return len(frame) > 10 and not frame[0] & 1 and frame[3:6] == _START_CODE  # noqa: PLR2004 -- its head


def _webp(frame: bytes) -> bytes:
    padded = frame + b"\0" * (len(frame) % 2)
    chunk = b"VP8 " + struct.pack("<I", len(frame)) + padded
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk
