"""The batches of an owner: what the tools call, and what happens when jobs of a batch change.

A batch is a row in addition to the rows of its jobs. These are ordinary jobs, sent, recovered,
settled and downloaded like all others. The status of a batch follows from theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from darkroom.core.log import log
from darkroom.engine.batches import manifest
from darkroom.engine.batches.changes import Canceller, Retrier
from darkroom.engine.batches.growth import Growth
from darkroom.engine.batches.plan import start_tool
from darkroom.engine.batches.report import PROVIDER, Reports
from darkroom.engine.batches.start import Opener
from darkroom.engine.local_files import spread
from darkroom.engine.recovery import recover_from
from darkroom.jobs.store import Query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from darkroom.core.json_types import JsonValue
    from darkroom.engine.batches.report import Report
    from darkroom.engine.batches.start import Asked, Opened
    from darkroom.engine.calls import Caller
    from darkroom.engine.person import Person
    from darkroom.engine.runtime import Runtime
    from darkroom.engine.starts import Starter
    from darkroom.jobs.model import Job
    from darkroom.providers.provider import Provider

MANIFEST_SECONDS = 1.0
"""Delay between a change and writing the manifest, so that many changes are written once."""

MOST_BATCHES = 100


class Batches:
    """Batches of an owner."""

    def __init__(
        self, runtime: Runtime, owner: str, providers: Mapping[str, Provider], starter: Starter
    ) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._owner = owner
        self._providers = providers
        self._reports = Reports(runtime, owner, providers)
        self._opener = Opener(runtime, owner, providers, starter)
        self._canceller = Canceller(runtime, self._reports)
        self._growth = Growth(runtime, providers, starter, self._reports)
        self._retrier = Retrier(runtime, starter, self._opener, self._growth)
        self._writing = anyio.Lock()

    # --- what the tools call ---

    async def spread(
        self, tool: str, for_each: Mapping[str, Sequence[JsonValue]]
    ) -> tuple[dict[str, list[JsonValue]], list[str], list[str]]:
        """Return the lists of a batch with folders and patterns as files; see `spread`."""
        pair = start_tool(self._runtime, self._providers, tool)
        return await self._runtime.run(lambda: spread(self._runtime, pair, for_each, self._owner))

    async def start(self, asked: Asked, person: Person) -> Opened:
        """Start a batch; see `Opener.open`."""
        opened = await self._opener.open(asked, person)
        if opened.made and not asked.dry_run:
            await self._context.detached(lambda: self._write(opened.batch.job_id))
        return opened

    async def report(self, batch_id: str) -> Report:
        """Return a batch with its jobs; those of a process that died are taken over first.

        Raises
        ------
        CallError: ``not_found``.
        """
        report = await self._reports.of(batch_id)
        if await recover_from(self._runtime, self._reports.holders(report)):
            report = await self._reports.of(batch_id)
        return report

    async def wait(self, batch_id: str, seconds: float, person: Person) -> Report:
        """Return at the next relevant change, or when the time is over."""
        await self.report(batch_id)
        report = await self._reports.wait(batch_id, seconds, person)
        if report.status != "running" and not report.batch.ended:
            await self._context.detached(lambda: self._write(batch_id))
        return report

    async def cancel(self, batch_id: str, caller: Caller) -> Report:
        """Cancel the jobs that can be cancelled; see `Canceller.cancel`."""
        await self._canceller.cancel(await self.report(batch_id), caller)
        return await self.report(batch_id)

    async def retry(self, batch_id: str, person: Person) -> tuple[Report, int]:
        """Run failed jobs again; see `Retrier.retry`."""
        retried = await self._retrier.retry(await self.report(batch_id), person)
        return await self.report(batch_id), retried

    def seconds_left(self, report: Report) -> float:
        """Return the estimated remaining time at the providers' limits."""
        return self._reports.seconds_left(report)

    def folder(self, batch: Job) -> Path:
        """Return the folder of a batch's files."""
        return self._reports.folder(batch)

    # --- after a change of a job ---

    def changed(self, job: Job) -> None:
        """Write the manifest soon, and continue with the second stage, after a change of a job."""
        if job.batch_id is None:
            return
        self._write_soon(job.batch_id)
        if job.status == "completed" and any(output.index for output in job.outputs):
            self._context.spawn(self._growth.follow, job)

    def _write_soon(self, batch_id: str) -> None:
        key = ("manifest", batch_id)
        if self._context.schedule.due(key) is None:
            self._context.schedule.at(
                key,
                anyio.current_time() + MANIFEST_SECONDS,
                lambda: self._context.spawn(self._write, batch_id),
            )

    async def _write(self, batch_id: str) -> None:
        """Write the manifest, and end the batch's row if all jobs are done."""
        async with self._writing:
            report = await self._reports.of(batch_id)
            try:
                await self._runtime.run(
                    lambda: manifest.write(self.folder(report.batch), report.batch, report.jobs)
                )
            except OSError as error:
                log.error("no manifest was written: %s", error.strerror)
        live = await self._context.registry.get(self._owner, batch_id)
        if live is None or live.job.status != "running" or report.status == "running":
            return
        now = self._context.clock()
        await self._context.registry.update(
            live,
            lambda job: (
                job.next(status="completed", updated_at=now, ended_at=now)
                if job.status == "running"
                else None
            ),
        )

    async def take_up(self) -> None:
        """Continue the batches of dead processes: second stages, manifests, ends."""
        registry = self._context.registry
        running = Query(
            owner=self._owner,
            provider=PROVIDER,
            statuses=frozenset({"running"}),
            limit=MOST_BATCHES,
        )
        for parent in await registry.store.list(running):
            if parent.holder != registry.holder:
                continue  # its process is alive
            registry.add(parent)
            report = await self._reports.of(parent.job_id)
            for job_id in dict.fromkeys(job.job_id for job, _ in self._growth.missing(report)):
                await self._growth.follow(next(j for j in report.jobs if j.job_id == job_id))
            self._write_soon(parent.job_id)
