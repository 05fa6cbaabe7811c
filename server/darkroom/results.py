"""Results as files: addresses die, so what a job made is fetched when it ends.

One folder a day, and names that a person understands: ``zsky-lighthouse-at-dusk-1.webp``.
"""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from darkroom.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from darkroom.core import Core
    from darkroom.fetch import Download, Fetcher, Offload
    from darkroom.jobs.model import Job, Output
    from darkroom.jobs.registry import Live

LABEL_CHARACTERS = 48
DOWNLOADS_AT_ONCE = 4

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


class Collector:
    """Downloads the outputs of completed jobs."""

    def __init__(
        self, core: Core, open_fetcher: Callable[[], Fetcher], folder: Path, offload: Offload
    ) -> None:
        self._core = core
        self._open_fetcher = open_fetcher
        self._fetcher: Fetcher | None = None
        self._folder = folder
        self._offload = offload
        self._turns = anyio.CapacityLimiter(DOWNLOADS_AT_ONCE)

    def wanted(self, outputs: tuple[Output, ...]) -> bool:
        """Tell whether there is anything to download."""
        if self._core.settings.results.download != "always":
            return False
        now = self._core.clock()
        return any(
            output.file is None
            and output.url is not None
            and (output.expires_at is None or output.expires_at > now)
            for output in outputs
        )

    async def collect(self, live: Live) -> None:
        """Download what a job made and write down where it is; a failure becomes a warning."""
        try:
            outputs: list[Output] = []
            warnings: list[str] = []
            for output in live.job.outputs:
                fetched, problem = await self._one(live.job, output)
                outputs.append(fetched)
                if problem is not None:
                    warnings.append(f"output {output.index} was not downloaded: {problem}")
            now = self._core.clock()
            known = set(live.job.warnings)
            await self._core.record(
                live,
                lambda job: job.next(
                    outputs=tuple(outputs),
                    warnings=(*job.warnings, *(w for w in warnings if w not in known)),
                    updated_at=now,
                ),
                (),
            )
        finally:
            live.fetching = False
            self._core.registry.touch(live)

    async def _one(self, job: Job, output: Output) -> tuple[Output, str | None]:
        if output.file is not None or output.url is None:
            return output, None
        folder = self._folder / datetime.fromtimestamp(self._core.clock(), UTC).strftime("%Y-%m-%d")
        try:
            async with self._turns:
                if self._fetcher is None:
                    self._fetcher = self._open_fetcher()
                download = await self._fetcher.download(output.url, folder)
                stem = self._stem(job, output)
                path = await self._offload(lambda: _place(download, folder, stem))
        except FetchError as error:
            return output, error.reason
        except OSError as error:
            return output, os.strerror(error.errno or 0)
        return (
            replace(
                output,
                media_type=download.media_type,
                width=download.width or output.width,
                height=download.height or output.height,
                bytes=download.bytes,
                file=str(path),
                sha256=download.sha256,
            ),
            None,
        )

    def _stem(self, job: Job, output: Output) -> str:
        operation = self._core.operations[job.operation]
        label = output.name or (operation.label(job.arguments) if operation.label else "")
        words = slug(label.rpartition(".")[0] or label) or job.operation.rpartition("_")[2]
        return f"{job.provider}-{words}-{output.index + 1}"

    async def aclose(self) -> None:
        """Close the connections."""
        if self._fetcher is not None:
            await self._fetcher.aclose()


def slug(text: str) -> str:
    """Reduce a text to words joined by hyphens: letters and digits of any script, lower case."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = re.findall(r"[^\W_]+", plain)
    kept = ""
    for word in words:
        longer = f"{kept}-{word}" if kept else word[:LABEL_CHARACTERS]
        if len(longer) > LABEL_CHARACTERS:
            break
        kept = longer
    return kept


def _place(download: Download, folder: Path, stem: str) -> Path:
    """Give a finished download its name: the first one that is free."""
    extension = EXTENSIONS.get(download.media_type, "bin")
    serial = 1
    while True:
        name = stem if serial == 1 else f"{stem}-{serial}"
        path = folder / f"{name}.{extension}"
        try:
            os.link(download.path, path)
        except FileExistsError:
            serial += 1
            continue
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK}:
                raise
            if path.exists():  # a file system without links: the name is taken as it is found free
                serial += 1
                continue
            download.path.replace(path)
            return path
        download.path.unlink()
        return path
