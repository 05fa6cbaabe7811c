"""The outputs of jobs, for tools and resources: found, downloaded if missing, shown, copied.

Pictures are decoded in a child process for each call (`darkroom.results.decoder`); everything else
that blocks is done in worker threads.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

import anyio

from darkroom.core.errors import call_error
from darkroom.core.times import iso
from darkroom.jobs.store import Query
from darkroom.results.decoder import Decoder
from darkroom.results.downloads import FINAL, NOT_DOWNLOADED
from darkroom.results.export import CONVERTED, Target, media_type_of, opened
from darkroom.results.integrity import NotKeptError, open_kept
from darkroom.results.problems import NoPictureError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from PIL.Image import Image

    from darkroom.core.errors import CallError, Code
    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.client.fetch import Offload
    from darkroom.providers.values import Output
    from darkroom.results.decoder import Session
    from darkroom.results.downloads import OutputDownloader
    from darkroom.results.preview import SaveFormat

    Replacing = Callable[[Sequence[Path]], Awaitable[None]]

T = TypeVar("T")

FETCH_WAIT_SECONDS = 25.0
"""How long a call waits for downloads that it has started."""

MOST_OUTPUTS = 1_000
CONVERT_NEXT_STEP = "save it with the extension of its own kind"


@dataclass(frozen=True, slots=True)
class ResultItem:
    """One output of a job, numbered from 1; ``problem`` says why there is no file."""

    number: int
    job: Job
    output: Output
    problem: str | None = None
    code: Code | None = None
    """What kind of problem it is."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A copy that was made."""

    item: ResultItem
    path: Path
    bytes: int


class Outputs:
    """Finds, reads, previews and copies the saved outputs of jobs."""

    def __init__(
        self, context: JobContext, downloader: OutputDownloader, folder: Path, offload: Offload
    ) -> None:
        self._context = context
        self._downloader = downloader
        self._folder = folder
        self._offload = offload
        self._decoder = Decoder(offload)

    # --- finding ---

    async def batch(self, owner: str, batch_id: str) -> list[LiveJob]:
        """Return the jobs of a batch, oldest first."""
        query = Query(owner=owner, batch_id=batch_id, limit=MOST_OUTPUTS)
        registry = self._context.registry
        found = [registry.add(job) for job in await registry.store.list(query)]
        return found[::-1]

    async def items(self, lives: Sequence[LiveJob], *, download: bool = True) -> list[ResultItem]:
        """Return all outputs of jobs, in order, with their files if there are any.

        With ``download``, missing files are downloaded now, if the settings allow it.
        """
        if download:
            await self._bring(lives)
        numbered: list[ResultItem] = []
        for live in lives:
            for output in live.job.outputs:
                code, problem = None, None
                if output.file is None:
                    code, problem = self._why_missing(live, output)
                numbered.append(ResultItem(len(numbered) + 1, live.job, output, problem, code))
        return numbered

    async def _bring(self, lives: Sequence[LiveJob]) -> None:
        """Download missing files, including those that were saved before and are gone."""
        if self._context.settings.results.download == "never":
            return
        for live in lives:
            gone = await self._offload(lambda live=live: self._gone(live.job))
            if gone:
                await self._context.record(
                    live,
                    lambda job, gone=gone: job.next(
                        outputs=tuple(_unfiled(o) if o.index in gone else o for o in job.outputs)
                    ),
                    (),
                )
            self._downloader.demand(live)
        with anyio.move_on_after(FETCH_WAIT_SECONDS):
            for live in lives:
                while live.fetching:
                    await live.change()

    def _gone(self, job: Job) -> set[int]:
        """Return which files of a job are gone; none while the whole folder is not there.

        A file that was changed counts, where its address lives: a new copy is fetched beside it.
        """
        if not self._folder.is_dir():
            return set()
        now = self._context.clock()
        return {
            o.index
            for o in job.outputs
            if o.file is not None
            and (not os.path.lexists(o.file) or (_lives(o, now) and self._changed(o)))
        }

    def _changed(self, output: Output) -> bool:
        try:
            open_kept(self._folder, output).close()
        except NotKeptError:
            return True
        return False

    def _why_missing(self, live: LiveJob, output: Output) -> tuple[Code, str]:
        if self._context.settings.results.download == "never":
            said = "this server is configured to download nothing ([results] download)"
            return "not_configured", said
        if output.fetch_error == "expired" or output.url is None:
            return "expired", "it has expired"
        if live.fetching or output.fetch_error is None:
            return "timeout", "it has not been downloaded yet"
        begins = NOT_DOWNLOADED.format(index=output.index, reason="")
        told = (w for w in live.job.warnings if w.startswith(begins))
        reason = next(told, begins + output.fetch_error).removeprefix(begins)
        return cast("Code", output.fetch_error), f"it could not be downloaded: {reason}"

    # --- looking ---

    async def work(self, item: ResultItem, use: Callable[[BinaryIO], T]) -> T:
        """Return the result of ``use`` for an item's file; it runs in a worker thread.

        Raises
        ------
        NotKeptError: the file is not there or is not the one that was saved.
        """
        opening = self._opening(item)

        def open_and_use() -> T:
            with opening() as file:
                return use(file)

        return await self._offload(open_and_use)

    async def make(self, work: Callable[[], T]) -> T:
        """Run picture work that needs no file."""
        return await self._offload(work)

    async def bytes(self, item: ResultItem, most: int) -> bytes:
        """Return a whole file.

        Raises
        ------
        NotKeptError: as `work`; or it is longer than ``most``.
        """
        if (item.output.bytes or 0) > most:
            raise NotKeptError(f"it is longer than {most} bytes: read the file itself")
        return await self.work(item, lambda file: file.read(most + 1))

    def decoding(self) -> AbstractAsyncContextManager[Session]:
        """Return the session in which a call decodes its pictures."""
        return self._decoder.session()

    async def thumbnail(self, item: ResultItem, side: int, session: Session) -> Image:
        """Return an item's picture, small.

        Raises
        ------
        NotKeptError: there is no file. NoPictureError: it cannot be shown as a picture.
        """
        return await session.thumbnail(self._opening(item), item.output.media_type or "", side)

    def _opening(self, item: ResultItem) -> Callable[[], BinaryIO]:
        """Return what opens an item's file in a worker thread."""
        if item.problem is not None:
            raise NotKeptError(item.problem)
        return lambda: open_kept(self._folder, item.output)

    # --- copying ---

    def _ours(self, where: Target) -> Path | None:
        """Return which folder of this server's a target lies in, if any."""
        settings = self._context.settings
        kept = (self._folder, settings.state_dir, settings.credentials.dir)
        inside = where.root.joinpath(*where.folders).resolve()
        folders = (folder.resolve() for folder in kept if folder is not None)
        return next((folder for folder in folders if inside.is_relative_to(folder)), None)

    async def save(
        self, items: Sequence[ResultItem], where: Target, may_replace: Replacing | None
    ) -> list[Saved]:
        """Copy outputs; nothing is written if one of the names is taken.

        ``may_replace`` returns when the files that it is given may be replaced, and raises if not;
        None: no file may. A file that this server keeps is never replaced.

        Raises
        ------
        CallError: ``conflict``: a name is taken; ``invalid_argument``: no such conversion;
            `unsaved` where there is no file to copy.
        """
        named = list(zip(items, _names(items, where), strict=True))
        for item, name in named:
            _must_be_convertible(item, name)
        taken, fixed = await self._offload(lambda: _taken_of(where, [name for _, name in named]))
        if taken and (may_replace is None or fixed):
            raise _taken(where, fixed or taken)
        ours = await self._offload(lambda: self._ours(where)) if taken else None
        if ours is not None:
            raise call_error(
                "conflict",
                f"{where.path(taken[0])} is a file of this server's, in {ours}",
                "choose another folder",
            )
        if taken and may_replace is not None:
            await may_replace([where.path(name) for name in taken])
        async with self.decoding() as session:
            return [
                await self._saved(item, where, name, name in taken, session) for item, name in named
            ]

    async def _saved(
        self,
        item: ResultItem,
        where: Target,
        name: str,
        overwrite: bool,  # noqa: FBT001 -- called from one place
        session: Session,
    ) -> Saved:
        """Copy an output, converted where its name asks for it."""
        if item.problem is not None:
            raise unsaved(item)
        has = item.output.media_type
        wanted = media_type_of(name)
        try:
            if wanted == has:
                written = await self.work(
                    item, lambda file: _write(file, where, name, overwrite=overwrite)
                )
            else:
                to = cast("SaveFormat", CONVERTED[wanted])
                data = await session.convert(self._opening(item), to)
                written = await self._offload(
                    lambda: _write(io.BytesIO(data), where, name, overwrite=overwrite)
                )
        except NoPictureError as error:
            raise call_error("invalid_argument", f"to: {error}", CONVERT_NEXT_STEP) from None
        except NotKeptError as error:
            raise call_error(
                "expired",
                f"output {item.output.index} of {item.job.job_id} cannot be saved: {error}",
                "start the job again if the person wants it; list_jobs shows what is kept",
            ) from None
        except FileExistsError:
            raise _taken(where, [name]) from None
        except OSError as error:
            raise call_error(
                "invalid_argument",
                f"{where.path(name)} cannot be written: {os.strerror(error.errno or 0)}",
                "choose another folder, or ask the person to make room there",
            ) from None
        return Saved(item, where.path(name), written)


def unsaved(item: ResultItem) -> CallError:
    """Return why an output has no file, whether trying again helps, and the way out."""
    code = item.code or "internal_error"
    address = f"include_url of {item.job.provider}'s check tool shows its address"
    if code == "expired":
        step = "start the job again if the person wants it; list_jobs shows what is kept"
    elif code == "not_configured":
        step = f"{address}; or ask the person to set [results] download"
    elif code in FINAL:
        step = f"nothing was saved of it, and it is not tried again by itself; {address}"
    else:
        until = item.output.expires_at
        lives = f", its address should live until {iso(until)}" if until is not None else ""
        step = f"call save_results again: it is fetched again each time{lives}"
    return call_error(
        code,
        f"output {item.output.index} of {item.job.job_id} cannot be saved: {item.problem}",
        step,
        retryable=code not in FINAL and code != "not_configured",
    )


def _lives(output: Output, now: float) -> bool:
    """Tell whether an output can be fetched again."""
    return output.url is not None and (output.expires_at is None or output.expires_at > now)


def _unfiled(output: Output) -> Output:
    return replace(output, file=None, sha256=None, fetch_error=None)


def _names(items: Sequence[ResultItem], where: Target) -> list[str]:
    """Return a different name for each copy."""
    if where.name is not None:
        return [where.name]
    names: list[str] = []
    for item in items:
        name = os.path.basename(item.output.file or "")  # noqa: PTH119 -- a name, not a path
        stem, extension = os.path.splitext(name)  # noqa: PTH122 -- as above
        serial = 1
        while name in names:
            serial += 1
            name = f"{stem}-{serial}{extension}"
        names.append(name)
    return names


def _must_be_convertible(item: ResultItem, name: str) -> None:
    if item.output.file is None:
        return  # copying reports the reason
    wanted, has = media_type_of(name), item.output.media_type or ""
    if wanted != has and not (wanted in CONVERTED and has.startswith("image/")):
        raise call_error(
            "invalid_argument", f"to: {has} cannot be converted for {name!r}", CONVERT_NEXT_STEP
        )


def _taken_of(where: Target, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names that are taken, and those of them that are no plain files."""
    with opened(where) as folder:
        taken = [name for name in names if folder.exists(name)]
        return taken, [name for name in taken if not folder.replaceable(name)]


def _taken(where: Target, names: Sequence[str]) -> Exception:
    return call_error(
        "conflict",
        f"already there: {', '.join(str(where.path(name)) for name in names[:5])}",
        "choose another name, or set overwrite if the person wants it replaced",
    )


def _write(file: BinaryIO, where: Target, name: str, *, overwrite: bool) -> int:
    with opened(where) as folder:
        return folder.write(name, file, overwrite=overwrite)
