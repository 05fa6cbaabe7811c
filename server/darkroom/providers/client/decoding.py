"""Decode the Content-Encoding of a body, if its first bytes show that it is compressed.

The header alone is not reliable. Some file stores return the encoding of the upload
(``aws-chunked``, an empty value, the name of a character set) with plain bytes; others compress
although ``identity`` was requested. So the header says what is possible, and the bytes decide.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from darkroom.core.errors import FetchError
from darkroom.core.media_types import sniff_media_type

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD_BYTES = 64
"""Number of bytes that are examined to decide whether a body is compressed."""

PIECE_BYTES = 256 * 1024
"""Bytes that are unpacked at once, because a small body may unpack to a very large one."""

MOST_LAYERS = 2

_GZIP = b"\x1f\x8b"
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15
_ZLIB_METHOD, _ZLIB_CHECK = 8, 31
_WORDS = frozenset({"gzip", "x-gzip", "deflate"})


class Decoder:
    """Decodes a body chunk by chunk; None marks its end."""

    def __init__(self, content_encoding: str) -> None:
        words = [word.strip().lower() for word in content_encoding.split(",")]
        packed = [word for word in words if word in _WORDS]
        if len(packed) > MOST_LAYERS:
            raise FetchError("the body is compressed too many times", code="bad_response")
        self._layers = [_Layer(word) for word in reversed(packed)]

    def __call__(self, chunk: bytes | None) -> Iterator[bytes]:
        """Yield the decoded content of a chunk, in pieces.

        Raises
        ------
        FetchError: it is damaged, or ends too early.
        """
        return _through(self._layers, chunk)


def _through(layers: list[_Layer], chunk: bytes | None) -> Iterator[bytes]:
    if not layers:
        if chunk is not None:
            yield chunk
        return
    first, *others = layers
    for piece in first.feed(chunk):
        yield from _through(others, piece)
    if chunk is None:
        yield from _through(others, None)


class _Layer:
    def __init__(self, word: str) -> None:
        self._word = word
        self._head: bytes | None = b""
        self._bits: int | None = None
        self._inflate = zlib.decompressobj(_RAW_BITS)

    def feed(self, chunk: bytes | None) -> Iterator[bytes]:
        if self._head is not None:
            self._head += chunk or b""
            if chunk is not None and len(self._head) < HEAD_BYTES:
                return
            held, self._head = self._head, None
            self._bits = _bits(self._word, held)
            if self._bits is not None:
                self._inflate = zlib.decompressobj(self._bits)
            yield from self._unpacked(held)
        elif chunk is not None:
            yield from self._unpacked(chunk)
        if chunk is None and self._bits is not None:
            yield self._inflate.flush()
            if not self._inflate.eof:
                raise FetchError("the compressed body ends too early", code="bad_response")

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        if self._bits is None:
            yield data
            return
        try:
            while data:
                if self._inflate.eof:  # gzip may be several files in a row; the rest is padding
                    if self._bits != _GZIP_BITS or not data.startswith(_GZIP):
                        return
                    self._inflate = zlib.decompressobj(self._bits)
                piece = self._inflate.decompress(data, PIECE_BYTES)
                data = self._inflate.unconsumed_tail or self._inflate.unused_data
                if piece:
                    yield piece
        except zlib.error:
            raise FetchError("the compressed body is damaged", code="bad_response") from None


def _bits(word: str, head: bytes) -> int | None:
    """Return zlib's ``wbits`` for the bytes; None if they are not compressed."""
    if word != "deflate":
        return _GZIP_BITS if head.startswith(_GZIP) else None
    if not head or sniff_media_type(head) is not None:
        return None
    is_zlib = head[0] % 16 == _ZLIB_METHOD and int.from_bytes(head[:2]) % _ZLIB_CHECK == 0
    return _ZLIB_BITS if is_zlib else _RAW_BITS
