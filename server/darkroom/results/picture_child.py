"""The process that decodes pictures of strangers: it reads requests, and answers each with pixels.

`darkroom.results.decoder` starts it, and kills it where a picture takes too long. A request is a
line of JSON and the bytes of the file; an answer is a line of JSON and the bytes that were made. It
is given no environment, and reads and writes nothing but its standard input and output.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from darkroom.results import preparing, preview

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_MEMORY_BYTES = 512 * 1024 * 1024
DAMAGED = "the picture is damaged"
TOO_MUCH_MEMORY = f"decoding it takes more than {MOST_MEMORY_BYTES // 1024 // 1024} MB of memory"


def main() -> None:
    """Answer until the input ends."""
    _limit_memory()
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while line := source.readline():
        request = json.loads(line)
        try:
            file = io.BytesIO(source.read(request["bytes"]))
            answer, data = _answer(request, file)
        except MemoryError:
            answer, data = {"problem": TOO_MUCH_MEMORY}, b""
        except preview.NoPictureError as error:
            answer, data = {"problem": str(error)}, b""
        except Exception:  # noqa: BLE001 -- decoders raise whatever they like (AVIF a RuntimeError)
            answer, data = {"problem": DAMAGED}, b""
        sink.write(json.dumps({**answer, "bytes": len(data)}).encode() + b"\n")
        sink.write(data)
        sink.flush()


def _answer(request: Mapping[str, Any], file: BinaryIO) -> tuple[dict[str, object], bytes]:
    if request["do"] == "prepare":
        return preparing.prepare(file.read(), request)
    if request["do"] == "convert":
        return {}, preview.convert(file, request["to"])
    picture = preview.thumbnail(file, request["media_type"], request["side"])
    return {"size": picture.size}, picture.tobytes()


def _limit_memory() -> None:
    """Bound the memory of this process; Windows has no such limit, and there only sizes count."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 -- not on every system

        for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
            resource.setrlimit(limit, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
