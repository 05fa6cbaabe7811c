"""Downloads the outputs of jobs, because their addresses expire, and requests new addresses."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from darkroom.core.byte_budget import LARGEST_FILE_BYTES, ByteBudget
from darkroom.core.errors import CallError, Code, FetchError
from darkroom.core.log import log
from darkroom.jobs import states
from darkroom.jobs.store import Query
from darkroom.providers.client.resend import Backoff
from darkroom.providers.messages import UNREADABLE
from darkroom.results import filenames as naming
from darkroom.results import sidecar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from darkroom.jobs.context import JobContext
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.providers.client.fetch import Download, Fetcher, Offload
    from darkroom.providers.values import Output

DOWNLOADS_AT_ONCE = 4
DOWNLOAD_AGAIN = Backoff(first=30.0, factor=4.0, longest=3_600.0, tries=6)

RESUME_AFTER_SECONDS = 2.0
"""Delay before old downloads are resumed, so that a new server answers its first calls first."""

RESUME_PAGE = 100
RESUME_MOST = 2_000
"""Number of completed jobs, newest first, that a new server checks for interrupted downloads."""

RESUME_SECONDS = 7 * 86_400.0
"""Downloads of older jobs are resumed when the job is checked, not when the server starts."""

FURTHER_BYTES = 32 * 1024 * 1024
"""What each output beyond the first adds to the bytes that the outputs of a job may have."""

FINAL: frozenset[Code] = frozenset({"expired", "bad_response", "forbidden"})
"""Reasons for a failed download that do not change with time."""

NOT_DOWNLOADED = "output {index} was not downloaded: {reason}"
INCOMPLETE = "output {index} may be incomplete: its file has no end, and came so twice"
HALF = "only a part of the file came; it is tried again"


@dataclass(frozen=True, slots=True)
class _Problem:
    code: Code
    reason: str


class OutputDownloader:
    """Downloads the outputs of completed jobs into the results folder."""

    def __init__(
        self,
        context: JobContext,
        open_fetcher: Callable[[], Fetcher],
        folder: Path,
        offload: Offload,
        dead: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._context = context
        self._open_fetcher = open_fetcher
        self._fetcher: Fetcher | None = None
        self._folder = folder
        self._offload = offload
        self._dead = dead
        self._permits = anyio.CapacityLimiter(DOWNLOADS_AT_ONCE)
        self._tries: dict[str, int] = {}
        self._halves: dict[tuple[str, int], str] = {}
        """By job and output: the checksum of a file without an end, until it came the same again."""
        self._swept: set[Path] = set()

    # --- when ---

    def wanted(self, outputs: tuple[Output, ...]) -> bool:
        """Tell whether new outputs are to be downloaded now."""
        always = self._context.settings.results.download == "always"
        return always and any(_missing(output) for output in outputs)

    def take_up(self, live: LiveJob) -> None:
        """Resume the download of a completed job, if this process is responsible and it may help."""
        job = live.job
        if not self._idle(live) or not self._ours(job):
            return
        hoped = [o for o in job.outputs if _missing(o) and o.fetch_error not in FINAL]
        if self._context.settings.results.download == "always":
            if hoped and self._context.schedule.due(("fetch", job.job_id)) is None:
                self._begin(live)
        elif any(self._expired(output) for output in hoped):
            self._begin(live, download=False)

    def awaited(self, live: LiveJob) -> bool:
        """Tell whether another process is downloading the missing files of a completed job."""
        always = self._context.settings.results.download == "always"
        fetched_elsewhere = always and self._context.registry.fetched_elsewhere(live)
        return live.job.status == "completed" and fetched_elsewhere and not self._ours(live.job)

    def demand(self, live: LiveJob) -> None:
        """Download the missing files of a completed job now, because they are needed."""
        missing = [output for output in live.job.outputs if _missing(output)]
        if not missing or not self._idle(live):
            return
        always = self._context.settings.results.download == "always"
        if always and not self._ours(live.job) and all(o.fetch_error is None for o in missing):
            return  # the process that holds the job is downloading it
        self._begin(live)

    def _idle(self, live: LiveJob) -> bool:
        known = live.job.operation in self._context.operations
        return known and live.job.status == "completed" and not live.fetching

    async def resume(self, owner: str) -> None:
        """Resume downloads that were interrupted when a process died."""
        if self._context.settings.results.download != "always":
            return
        await anyio.sleep(RESUME_AFTER_SECONDS)
        context, before, looked = self._context, None, 0
        oldest = context.clock() - RESUME_SECONDS
        while looked < RESUME_MOST:
            page = await context.registry.store.list(
                Query(
                    owner=owner,
                    statuses=frozenset({"completed"}),
                    limit=RESUME_PAGE,
                    before=before,
                )
            )
            for job in page:
                if any(map(_missing, job.outputs)) and self._ours(job):
                    await self._resume(job)
            looked += len(page)
            if len(page) < RESUME_PAGE or page[-1].created_at < oldest:
                return
            before = (page[-1].created_at, page[-1].job_id)
            await anyio.lowlevel.checkpoint()

    async def _resume(self, job: Job) -> None:
        """Take over a job, so that only one of two servers that start together downloads it."""
        live = self._context.registry.add(job)
        me = self._context.registry.holder
        taken = await self._context.registry.update(
            live, lambda job: job.next(holder=me) if self._ours(job) else None
        )
        if taken.holder == me:
            self.take_up(live)

    def _ours(self, job: Job) -> bool:
        """Tell whether no other live process may be downloading it."""
        holder = job.holder
        return holder in {None, self._context.registry.holder} or self._dead(holder or "")

    def _begin(self, live: LiveJob, *, download: bool = True) -> None:
        live.fetching = True
        self._context.registry.touch(live)
        self._context.spawn(self.collect, live, download)

    # --- how ---

    async def collect(self, live: LiveJob, download: bool = True) -> None:  # noqa: FBT001, FBT002 -- spawn passes positions
        """Download a job's outputs and record the files; a failure becomes a warning.

        Without ``download``, only new addresses are requested for expired ones.
        """
        self._context.schedule.cancel(("fetch", live.job.job_id))
        try:
            addresses = _Addresses(self._context, live.job)
            budget = budget_of(live.job)
            outputs: list[Output] = []
            problems: dict[int, _Problem] = {}
            for output in live.job.outputs:
                found, problem = output, None
                if _missing(output):
                    if download:
                        found, problem = await self._one(live.job, output, addresses, budget)
                    else:
                        found, problem = await self._renewed(live.job, output, addresses)
                if problem is not None:
                    problems[output.index] = problem
                    found = replace(found, fetch_error=problem.code)
                outputs.append(found)
            await self._write_down(live, outputs, problems)
        finally:
            live.fetching = False
            self._context.registry.touch(live)
        self._again(live)

    async def _write_down(
        self, live: LiveJob, outputs: Sequence[Output], problems: dict[int, _Problem]
    ) -> None:
        now = self._context.clock()
        settled = tuple(NOT_DOWNLOADED.format(index=o.index, reason="") for o in outputs)
        said = [
            INCOMPLETE.format(index=o.index)
            for o in outputs
            if o.file is not None
            and o.sha256 is not None
            and self._halves.get((live.job.job_id, o.index)) == o.sha256
        ]
        said += [
            NOT_DOWNLOADED.format(index=index, reason=problem.reason)
            for index, problem in problems.items()
        ]

        def change(job: Job) -> Job:
            others = tuple(w for w in job.warnings if not w.startswith(settled) and w not in said)
            dropped = {o.index for o in job.outputs if o.url is None}
            kept = tuple(_without_address(o) if o.index in dropped else o for o in outputs)
            return job.next(outputs=kept, warnings=(*others, *said), updated_at=now)

        await self._context.record(live, change, ())

    def _again(self, live: LiveJob) -> None:
        """Schedule another try for downloads that failed for a temporary reason."""
        job_id = live.job.job_id
        passing = any(
            o.fetch_error is not None and o.fetch_error not in FINAL for o in live.job.outputs
        )
        tries = self._tries[job_id] = self._tries.get(job_id, 0) + 1
        if not passing or DOWNLOAD_AGAIN.over(tries) or not self.wanted(live.job.outputs):
            self._tries.pop(job_id, None)
            return
        self._context.schedule.at(
            ("fetch", job_id),
            anyio.current_time() + DOWNLOAD_AGAIN.wait(tries),
            lambda: self._begin(live) if not live.fetching else None,
        )

    async def _one(
        self, job: Job, output: Output, addresses: _Addresses, budget: ByteBudget
    ) -> tuple[Output, _Problem | None]:
        expired: _Problem | None = None
        if self._expired(output):
            output, expired = await self._renewed(job, output, addresses)
        try:
            try:  # even an address that the clock calls dead: the clock may be wrong
                return await self._download(job, output, budget), None
            except FetchError as error:
                if error.dead and expired is not None:
                    return output, expired
                if not error.dead:
                    raise
                output, problem = await self._renewed(job, output, addresses)
                if problem is not None:
                    return output, problem
                return await self._download(job, output, budget), None
        except FetchError as error:
            return output, _Problem(error.code, error.reason)
        except OSError as error:
            return output, _Problem("internal_error", os.strerror(error.errno or 0))
        except Exception as error:  # noqa: BLE001 -- the job's other files, and the next try, come
            log.error("a download of %s failed: %s", job.job_id, type(error).__name__)
            return output, _Problem("internal_error", "it failed in this server")

    async def _download(self, job: Job, output: Output, budget: ByteBudget) -> Output:
        now = self._context.clock()
        folder = naming.day_folder(self._folder, job.ended_at or now)
        if job.folder is not None:
            folder = self._folder / job.folder
        async with self._permits:
            if folder not in self._swept:
                self._swept.add(folder)
                await self._offload(lambda: naming.sweep(folder, now))
            if self._fetcher is None:
                self._fetcher = self._open_fetcher()
            download = await self._fetcher.download(output.url or "", folder, budget=budget)
            await self._check_end(job, output, download)
            path = await self._offload(
                lambda: naming.place(download, folder, self._stem(job, output))
            )
            saved = replace(
                output,
                media_type=download.media_type,
                width=download.width or output.width,
                height=download.height or output.height,
                bytes=download.bytes,
                file=str(path),
                sha256=download.sha256,
                fetch_error=None,
            )
            beside = sidecar.sidecar(job, saved, now)
            try:
                await self._offload(lambda: sidecar.write(path, beside))
            except OSError as error:
                log.error("no sidecar was written: %s", os.strerror(error.errno or 0))
        return saved

    async def _check_end(self, job: Job, output: Output, download: Download) -> None:
        """Refuse a file without an end, unless it came the same twice: then there is no more of it."""
        key = (job.job_id, output.index)
        if download.whole:
            self._halves.pop(key, None)
        elif self._halves.get(key) != download.sha256:
            self._halves[key] = download.sha256
            await self._offload(lambda: download.path.unlink(missing_ok=True))
            raise FetchError(HALF)

    async def _renewed(
        self, job: Job, output: Output, addresses: _Addresses
    ) -> tuple[Output, _Problem | None]:
        """Return an output with a new address, or the reason why there is none."""
        try:
            fresh = await addresses.fresh(output)
        except CallError as error:
            code = error.failure.code
            if code != "not_found" and error.failure.retryable:
                return output, _Problem(code, f"it needs a new address: {error.failure.message}")
            fresh = None
        title = self._context.clients[job.provider].provider.title
        if fresh is None or fresh.url is None or self._expired(fresh):
            return output, _Problem("expired", f"it has expired, and {title} no longer has it")
        if fresh.url == output.url:
            if self._expired(output):
                return output, _Problem("expired", f"it has expired at {title}")
            return output, _Problem(
                "provider_error", f"{title} gives out an address that does not work"
            )
        renewed = replace(output, url=fresh.url, expires_at=fresh.expires_at, fetch_error=None)
        return renewed, None

    async def address_of(self, job: Job, output: Output, life: float) -> Output:
        """Return an output with an address that stays valid for ``life`` seconds, if possible.

        Raises
        ------
        FetchError: there is no such address any more.
        """
        if not self.dying(output, life):
            return output
        fresh, problem = await self._renewed(job, output, _Addresses(self._context, job))
        if problem is None and fresh.url is not None:
            return fresh
        if output.url is not None and not self._expired(output):
            return output
        raise FetchError(problem.reason, code=problem.code) if problem else FetchError("no address")

    def dying(self, output: Output, life: float) -> bool:
        """Tell whether an output has no address that stays valid for ``life`` seconds."""
        return output.url is None or self._expired(output, life)

    def _expired(self, output: Output, life: float = 0.0) -> bool:
        return (
            output.url is not None
            and output.expires_at is not None
            and output.expires_at <= self._context.clock() + life
        )

    def _stem(self, job: Job, output: Output) -> str:
        operation = self._context.operations[job.operation]
        label = output.name or (operation.label(job.arguments) if operation.label else "")
        label = label.rpartition(".")[0] or label if output.name else label
        return naming.stem(job.provider, job.operation, label, output.index)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._fetcher is not None:
            await self._fetcher.aclose()


def budget_of(job: Job) -> ByteBudget:
    """Return how many bytes the missing files of a job may have together.

    A provider that answers with much more than was asked for does not fill the disk.
    """
    most = LARGEST_FILE_BYTES + FURTHER_BYTES * (len(job.outputs) - 1)
    return ByteBudget(most - sum(each.bytes or 0 for each in job.outputs if each.file is not None))


class _Addresses:
    """The addresses that the provider gives out now; requested once, when one is needed."""

    def __init__(self, context: JobContext, job: Job) -> None:
        self._context = context
        self._job = job
        self._outputs: tuple[Output, ...] | None = None

    async def fresh(self, output: Output) -> Output | None:
        """Return the output as the provider shows it now; None if it no longer does."""
        if self._outputs is None:
            self._outputs = await self._ask()
        same = [o for o in self._outputs if o.name is not None and o.name == output.name]
        by_index = [o for o in self._outputs if o.index == output.index]
        return next(iter(same or by_index), None)

    async def _ask(self) -> tuple[Output, ...]:
        job = self._job
        if job.provider_job_id is None or job.operation not in self._context.operations:
            return ()
        client = self._context.clients[job.provider]
        operation = self._context.operations[job.operation]
        key = self._context.credentials.key(client.provider, operation.credential, owner=job.owner)
        request = states.request_for(operation.state, job)
        response = await client.read(request, key, kind="poll")
        try:
            state = await states.read(client, operation, job, response, key)
        except (states.NotOkError, *UNREADABLE):
            return ()
        return client.mended(state).outputs


def _without_address(output: Output) -> Output:
    return replace(output, url=None, expires_at=None)


def _missing(output: Output) -> bool:
    return output.file is None and output.url is not None
