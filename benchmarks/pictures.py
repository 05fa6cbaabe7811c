"""Results: the memory that a download takes, and what pictures for a chat cost."""

from __future__ import annotations

import gc
import hashlib
import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import httpx2

from benchmarks.measure import Number, percentile, spread
from darkroom.providers.client.fetch import Fetcher
from darkroom.providers.values import Output
from darkroom.results.integrity import open_kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from PIL.Image import Image

    from benchmarks.measure import Detail, Options

MEGABYTE = 1024 * 1024
RESULT_BYTES = 20 * MEGABYTE
CHUNK_BYTES = 64 * 1024
PREVIEWS = 16
TICK_SECONDS = 0.001
MOST_BYTES = 150 * 1024


class _LargeFile(httpx2.AsyncBaseTransport):
    """Answers with a PNG of `RESULT_BYTES` that is made while it is sent."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, stream=_Body(), request=request)


class _Body(httpx2.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"\x89PNG\r\n\x1a\n" + bytes(CHUNK_BYTES - 8)
        for _ in range(RESULT_BYTES // CHUNK_BYTES - 1):
            yield bytes(CHUNK_BYTES)


def pictures(options: Options) -> list[Number]:
    """Download a large result; make a contact sheet while the event loop is watched."""
    return anyio.run(_pictures, options)


async def _pictures(options: Options) -> list[Number]:
    return [await _download(), *await _sheet(options)]


async def _download() -> Number:
    fetcher = Fetcher(sandbox=_LargeFile())
    with TemporaryDirectory() as folder:
        address = "https://files.sandbox.test/large.png"
        (await fetcher.download(address, Path(folder))).path.unlink()  # imports and threads
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        download = await fetcher.download(address, Path(folder))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    await fetcher.aclose()
    return Number(
        what="more memory while a result of 20 MB is downloaded, at its peak",
        value=(peak - before) / MEGABYTE,
        unit="MB",
        at_most=8,
        label="memory to download 20 MB",
        details={"bytes": float(download.bytes), "counted by": "tracemalloc"},
    )


async def _sheet(options: Options) -> list[Number]:
    from darkroom.results import preview  # noqa: PLC0415 -- as the server does, at the first picture
    from darkroom_tools.emulators import pictures as drawing  # noqa: PLC0415 -- as above

    seconds: list[float] = []
    late: list[float] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        outputs: list[Output] = []
        for number in range(PREVIEWS):
            data = drawing.encode(drawing.scene(f"a lake {number}", number, 1024, 1024), "webp")
            path = folder / f"{number}.webp"
            path.write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            outputs.append(Output(index=number, file=str(path), sha256=digest))
        side = preview.cell_side(PREVIEWS)

        def thumbnail(output: Output) -> Image:
            with open_kept(folder, output) as file:
                return preview.thumbnail(file, "image/webp", side)

        for _ in range(options.times(10, 1) + 1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_watch, late)
                began = time.process_time()
                tiles = [
                    preview.Tile(
                        number + 1, await anyio.to_thread.run_sync(thumbnail, outputs[number])
                    )
                    for number in range(PREVIEWS)
                ]
                sheet = await anyio.to_thread.run_sync(preview.contact_sheet, tiles)
                await anyio.to_thread.run_sync(preview.encode, sheet, MOST_BYTES)
                seconds.append(time.process_time() - began)
                tasks.cancel_scope.cancel()
    details: dict[str, Detail] = spread(seconds, "s")
    return [
        Number(
            what=f"processor time of a contact sheet of {PREVIEWS} pictures of 1024 x 1024",
            value=min(seconds),
            unit="s",
            at_most=1,
            label=f"contact sheet of {PREVIEWS} (processor time)",
            details=details,
        ),
        Number(
            what="stall of the event loop while contact sheets are made, p99",
            value=percentile(late, 0.99) * 1e3,
            unit="ms",
            at_most=20,
            label="pause while sheets are made (p99)",
            details={"longest ms": max(late) * 1e3, "ticks": float(len(late))},
        ),
    ]


async def _watch(late: list[float]) -> None:
    """Note how much later than asked the event loop comes back."""
    while True:
        asked = time.perf_counter()
        await anyio.sleep(TICK_SECONDS)
        late.append(time.perf_counter() - asked - TICK_SECONDS)
