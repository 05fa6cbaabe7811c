"""The batches of an owner: what the tools call, and what happens when jobs of a batch change.

A batch is a row in addition to the rows of its jobs. These are ordinary jobs, sent, recovered,
settled and downloaded like all others. The status of a batch follows from theirs.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import anyio

from darkroom.core.errors import CallError, call_error
from darkroom.core.log import log
from darkroom.engine.batches import manifest
from darkroom.engine.batches.changes import Canceller, Retrier
from darkroom.engine.batches.plan import outputs_of
from darkroom.engine.batches.report import OPERATION, PROVIDER, Reports
from darkroom.engine.batches.start import Opener
from darkroom.engine.recovery import recover_from
from darkroom.engine.starts import Place
from darkroom.jobs.store import Query
from darkroom.providers.operations import JobOperation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from darkroom.core.json_types import JsonObject
    from darkroom.engine.batches.report import Report
    from darkroom.engine.batches.start import Asked, Opened
    from darkroom.engine.calls import Caller
    from darkroom.engine.person import Person
    from darkroom.engine.runtime import Runtime
    from darkroom.engine.starts import Starter
    from darkroom.jobs.model import Job
    from darkroom.providers.provider import Provider
    from darkroom.providers.values import Unit

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
        self._starter = starter
        self._starts = {
            operation.name: (provider, operation)
            for provider in providers.values()
            for operation in provider.operations
            if isinstance(operation, JobOperation)
        }
        self._reports = Reports(runtime, owner, providers)
        self._opener = Opener(runtime, owner, providers, starter)
        self._canceller = Canceller(runtime, providers, self._reports)
        self._retrier = Retrier(runtime, starter, self._opener)
        self._writing = anyio.Lock()

    # --- what the tools call ---

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

    async def cancel(self, batch_id: str, caller: Caller, person: Person) -> Report:
        """Cancel the jobs that can be cancelled; see `Canceller.cancel`."""
        await self._canceller.cancel(await self.report(batch_id), caller, person)
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
            self._context.spawn(self._grow, job)

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

    async def _grow(self, job: Job) -> None:
        """Start the second stage for the outputs of a job beyond its first."""
        parent = await self._context.registry.get(self._owner, job.batch_id or "")
        stage = parent.job.arguments.get("then") if parent is not None else None
        if parent is None or not isinstance(stage, dict) or ">" in (job.item or ""):
            return
        if parent.job.status == "cancelled":
            return
        provider, operation = self._starts[str(stage["tool"])]
        arguments = stage["arguments"]
        planned = outputs_of(self._runtime, job)
        beyond = [output for output in job.outputs if output.index >= planned]
        if beyond and await self._would_ask(parent.job, operation, job, len(beyond)):
            await self._warn(parent.job.job_id, _not_approved(job, len(beyond), operation.name))
        else:
            beyond = []
        for output in job.outputs:
            if output.index == 0 or output in beyond:
                continue  # it was planned with the batch, or nobody has said yes to it
            newest = await self._context.registry.store.job(self._owner, parent.job.job_id)
            if newest is None or newest.status == "cancelled":
                return
            given: JsonObject = dict(arguments) if isinstance(arguments, dict) else {}
            given[str(stage["input"])] = f"job:{job.job_id}#{output.index}"
            try:
                await self._starter.start_in_batch(
                    provider,
                    operation,
                    given,
                    Place(
                        batch_id=parent.job.job_id,
                        item=f"{job.item}>{output.index}",
                        folder=parent.job.folder,
                    ),
                )
            except CallError as error:
                await self._warn(parent.job.job_id, error)
                return

    async def _would_ask(self, batch: Job, operation: JobOperation, job: Job, more: int) -> bool:
        """Tell whether the person would be asked for the batch with so many jobs more."""
        if OPERATION in self._context.settings.approval.never_ask:
            return False
        costs: Counter[tuple[str, Unit]] = Counter()
        report = await self._reports.of(batch.job_id)
        for each in report.jobs:
            if each.cost is None:
                continue
            costs[each.provider, each.cost.unit] += each.cost.amount  # pyright: ignore[reportArgumentType] -- amounts may be fractions
            if each.item == f"{job.item}>0" and each.operation == operation.name:
                costs[each.provider, each.cost.unit] += each.cost.amount * more  # pyright: ignore[reportArgumentType] -- amounts may be fractions
        return self._context.tariff.question_for_all(costs) is not None

    async def _warn(self, batch_id: str, error: CallError) -> None:
        """Add a warning to the batch: its second stage was not continued, and why."""
        live = await self._context.registry.get(self._owner, batch_id)
        said = f"the second stage did not go on: {error.failure.message}"
        if live is not None:
            await self._context.registry.update(
                live,
                lambda job: (
                    None if said in job.warnings else job.next(warnings=(*job.warnings, said))
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
            known = {job.item for job in report.jobs}
            for job in report.jobs:
                if job.status == "completed" and any(
                    o.index and f"{job.item}>{o.index}" not in known for o in job.outputs
                ):
                    await self._grow(job)
            self._write_soon(parent.job_id)


def _not_approved(job: Job, more: int, tool: str) -> CallError:
    """Say that a job has more outputs than the person's yes to the batch was for."""
    return call_error(
        "declined",
        f"{job.job_id} has {more} outputs more than were planned, and nobody has approved "
        f"{tool} for them",
        "start them as another batch",
    )
