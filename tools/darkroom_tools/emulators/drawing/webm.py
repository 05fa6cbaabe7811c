"""A WebM film of VP8 key frames, written without an encoder.

Pillow writes lossy WebP, whose ``VP8 `` chunk (RFC 6386, RFC 9649) is one VP8 key frame. The
container is EBML (RFC 8794) with the elements that Matroska (RFC 9559) needs to play and to seek.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CLUSTER_MILLISECONDS = 1000
NANOSECONDS_PER_MILLISECOND = 1_000_000
KEY_FRAME = 0x80
TRACK = 1

EBML = 0x1A45DFA3
EBML_VERSION, EBML_READ_VERSION = 0x4286, 0x42F7
MAX_ID_LENGTH, MAX_SIZE_LENGTH = 0x42F2, 0x42F3
DOC_TYPE, DOC_VERSION, DOC_READ_VERSION = 0x4282, 0x4287, 0x4285
SEGMENT = 0x18538067
INFO, TIMESTAMP_SCALE, DURATION, MUXING_APP, WRITING_APP = (
    0x1549A966,
    0x2AD7B1,
    0x4489,
    0x4D80,
    0x5741,
)
TRACKS, TRACK_ENTRY, TRACK_NUMBER, TRACK_UID, TRACK_TYPE = 0x1654AE6B, 0xAE, 0xD7, 0x73C5, 0x83
CODEC_ID, VIDEO, PIXEL_WIDTH, PIXEL_HEIGHT = 0x86, 0xE0, 0xB0, 0xBA
CUES, CUE_POINT, CUE_TIME, CUE_POSITIONS, CUE_TRACK, CUE_CLUSTER = (
    0x1C53BB6B,
    0xBB,
    0xB3,
    0xB7,
    0xF7,
    0xF1,
)
CLUSTER, TIMESTAMP, SIMPLE_BLOCK = 0x1F43B675, 0xE7, 0xA3

VIDEO_TRACK_TYPE = 1


def webm(pictures: Sequence[bytes], width: int, height: int, *, seconds: float) -> bytes:
    """Return a film that shows the pictures (lossy WebP files) one after another in ``seconds``."""
    each = seconds * 1000 / len(pictures)
    clusters: list[tuple[int, bytes]] = []
    blocks: list[bytes] = []
    start = 0
    for index, picture in enumerate(pictures):
        at = round(index * each)
        if at - start >= CLUSTER_MILLISECONDS:
            clusters.append((start, _cluster(start, blocks)))
            start, blocks = at, []
        block = struct.pack(">BhB", 0x80 | TRACK, at - start, KEY_FRAME)
        blocks.append(_element(SIMPLE_BLOCK, block + _key_frame(picture)))
    clusters.append((start, _cluster(start, blocks)))
    info = _element(
        INFO,
        _number(TIMESTAMP_SCALE, NANOSECONDS_PER_MILLISECOND),
        _element(DURATION, struct.pack(">d", seconds * 1000)),
        _element(MUXING_APP, b"darkroom"),
        _element(WRITING_APP, b"darkroom"),
    )
    video = _element(VIDEO, _number(PIXEL_WIDTH, width), _number(PIXEL_HEIGHT, height))
    entry = _element(
        TRACK_ENTRY,
        _number(TRACK_NUMBER, TRACK),
        _number(TRACK_UID, TRACK),
        _number(TRACK_TYPE, VIDEO_TRACK_TYPE),
        _element(CODEC_ID, b"V_VP8"),
        video,
    )
    head = info + _element(TRACKS, entry)
    position = len(head) + len(_cues([(at, 0) for at, _ in clusters]))
    points: list[tuple[int, int]] = []
    for at, cluster in clusters:
        points.append((at, position))
        position += len(cluster)
    segment = _element(SEGMENT, head, _cues(points), *(cluster for _, cluster in clusters))
    return _head() + segment


def _head() -> bytes:
    return _element(
        EBML,
        _number(EBML_VERSION, 1),
        _number(EBML_READ_VERSION, 1),
        _number(MAX_ID_LENGTH, 4),
        _number(MAX_SIZE_LENGTH, 8),
        _element(DOC_TYPE, b"webm"),
        _number(DOC_VERSION, 4),
        _number(DOC_READ_VERSION, 2),
    )


def _cues(points: Sequence[tuple[int, int]]) -> bytes:
    """Return the index of clusters; its length does not depend on the values in it."""
    return _element(
        CUES,
        *(
            _element(
                CUE_POINT,
                _number(CUE_TIME, at),
                _element(CUE_POSITIONS, _number(CUE_TRACK, TRACK), _number(CUE_CLUSTER, position)),
            )
            for at, position in points
        ),
    )


def _cluster(start: int, blocks: Sequence[bytes]) -> bytes:
    return _element(CLUSTER, _number(TIMESTAMP, start), *blocks)


def _key_frame(picture: bytes) -> bytes:
    """Return the VP8 frame in a simple lossy WebP file: RIFF head 12, chunk head 8, frame."""
    if picture[:4] != b"RIFF" or picture[8:16] != b"WEBPVP8 ":
        raise ValueError("not a simple lossy WebP file")
    (size,) = struct.unpack_from("<I", picture, 16)
    return picture[20 : 20 + size]


def _element(identifier: int, *parts: bytes) -> bytes:
    """Return an EBML element; its size is always written in eight bytes."""
    body = b"".join(parts)
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (1 << 56 | len(body)).to_bytes(8, "big") + body


def _number(identifier: int, value: int) -> bytes:
    return _element(identifier, value.to_bytes(8, "big"))
