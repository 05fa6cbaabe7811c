"""Whether a picture or video is whole: its container is walked to the end that it states.

A connection that ends early is not always noticed: without a length, half a file looks like one.
Nothing is decoded here. Kinds that do not state their end count as whole.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    Data = bytes | mmap

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
"""A JPEG marker other than those that may stand inside a scan."""

_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_ALONE = frozenset({0x01, 0xD8})
"""JPEG markers without a length."""

_GIF_TABLE, _GIF_BITS = 0x80, 0x07
_GIF_IMAGE, _GIF_EXTENSION, _GIF_END = 0x2C, 0x21, 0x3B
_LARGE_BOX, _LAST_BOX, _SMALLEST_BOX = 1, 0, 8
_WEBM_SEGMENT = b"\x18\x53\x80\x67"
_WEBM_HEAD = 4096
"""The segment follows the header, which is short."""


def is_whole(data: Data, media_type: str) -> bool:
    """Tell whether a file of this type has its end."""
    walk = _WALKS.get(media_type)
    try:
        return walk is None or walk(data)
    except (struct.error, IndexError):  # it ends in the middle of something
        return False


def _jpeg(data: Data) -> bool:
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _END_OF_IMAGE:
            return True
        if marker not in _ALONE:
            at += struct.unpack_from(">H", data, at)[0]
            if at > len(data):
                return False
    return False


def _png(data: Data) -> bool:
    at = 8
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            return False
        if name == b"IEND":
            return True


def _gif(data: Data) -> bool:
    at = 13 + _colours(data[10])
    while (kind := data[at]) != _GIF_END:
        if kind == _GIF_IMAGE:
            at += 11 + _colours(data[at + 9])
        elif kind == _GIF_EXTENSION:
            at += 2
        else:
            return True  # padding or something unknown: nothing more can be said
        while length := data[at]:
            at += 1 + length
        at += 1
    return True


def _colours(flags: int) -> int:
    """Return the length of a GIF's colour table."""
    return 3 << (flags & _GIF_BITS) + 1 if flags & _GIF_TABLE else 0


def _riff(data: Data) -> bool:
    return 8 + struct.unpack_from("<I", data, 4)[0] <= len(data)


def _boxes(*needed: bytes) -> Callable[[Data], bool]:
    """Return a walk over the boxes of an ISO base media file, of which these must be there."""

    def walk(data: Data) -> bool:
        at, missing = 0, set(needed)
        while at < len(data):
            size, name = struct.unpack_from(">I4s", data, at)
            if size == _LARGE_BOX:
                size = struct.unpack_from(">Q", data, at + 8)[0]
            missing.discard(name)
            if size == _LAST_BOX:
                break
            if size < _SMALLEST_BOX:  # no box: what follows the last one says nothing
                break
            at += size
        return not missing and at <= len(data)

    return walk


def _bmp(data: Data) -> bool:
    return struct.unpack_from("<I", data, 2)[0] <= len(data)


def _webm(data: Data) -> bool:
    at = bytes(data[:_WEBM_HEAD]).find(_WEBM_SEGMENT)
    if at < 0:
        return True
    at += len(_WEBM_SEGMENT)
    width = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + width]) & ((1 << 7 * width) - 1)
    unknown = size == (1 << 7 * width) - 1
    return unknown or at + width + size <= len(data)


_WALKS: dict[str, Callable[[Data], bool]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/gif": _gif,
    "image/webp": _riff,
    "image/bmp": _bmp,
    "image/avif": _boxes(b"meta"),
    "image/heic": _boxes(b"meta"),
    "video/mp4": _boxes(b"moov", b"mdat"),
    "video/quicktime": _boxes(b"moov", b"mdat"),
    "video/webm": _webm,
}
