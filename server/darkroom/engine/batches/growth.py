"""The second stage of a batch: a job for every output of the first.

The jobs for the first output of each job are planned with the batch. The others are added when the
outputs are there, as far as the person's yes to the batch goes, and the caps. The rest waits until
`darkroom.engine.batches.changes.Retrier` has asked for it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from darkroom.core.errors import CallError, call_error
from darkroom.engine.batches.plan import outputs_of
from darkroom.engine.batches.report import OPERATION
from darkroom.engine.started import Place
from darkroom.providers.operations import JobOperation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from darkroom.core.json_types import JsonObject
    from darkroom.engine.batches.report import Report, Reports
    from darkroom.engine.runtime import Runtime
    from darkroom.engine.starts import Starter
    from darkroom.jobs.model import Job
    from darkroom.providers.provider import Provider
    from darkroom.providers.values import Unit

STOPPED = "the second stage did not go on"

Followed = tuple["Job", int]
"""A job of the first stage, and the index of an output of it."""


class Growth:
    """Adds the jobs of the second stage to the batches of an owner."""

    def __init__(
        self,
        runtime: Runtime,
        providers: Mapping[str, Provider],
        starter: Starter,
        reports: Reports,
    ) -> None:
        self._runtime = runtime
        self._context = runtime.context
        self._starter = starter
        self._reports = reports
        self._starts = {
            operation.name: (provider, operation)
            for provider in providers.values()
            for operation in provider.operations
            if isinstance(operation, JobOperation)
        }

    async def follow(self, job: Job) -> None:
        """Start the second stage for the outputs of a job beyond its first."""
        parent = await self._context.registry.get(job.owner, job.batch_id or "")
        if parent is None or parent.job.status == "cancelled" or ">" in (job.item or ""):
            return
        batch = parent.job
        stage = batch.arguments.get("then")
        if not isinstance(stage, dict):
            return
        # A job changes again after it was followed: what was started then is not looked at anew.
        known = {each.item for each in (await self._reports.of(batch.job_id)).jobs}
        left = [each.index for each in job.outputs if f"{job.item}>{each.index}" not in known]
        planned = outputs_of(self._runtime, job)
        within = [(job, index) for index in left if 0 < index < planned]
        beyond = [(job, index) for index in left if index >= planned]
        if not await self.start(batch, within, asked=batch.asked) or not beyond:
            return
        tool = str(stage["tool"])
        if batch.asked or await self._would_ask(batch, tool, job, len(beyond)):
            await self._warn(batch, _not_approved(job, len(beyond), tool))
        else:
            await self.start(batch, beyond, asked=False)

    async def start(self, batch: Job, outputs: Sequence[Followed], *, asked: bool) -> bool:
        """Start the second stage for outputs, until something is in the way.

        ``asked`` tells whether the person said yes to these. Returns whether all were started.
        """
        stage = batch.arguments.get("then")
        if not isinstance(stage, dict):
            return not outputs
        provider, operation = self._starts[str(stage["tool"])]
        arguments = stage["arguments"]
        for job, index in outputs:
            newest = await self._context.registry.store.job(batch.owner, batch.job_id)
            if newest is None or newest.status == "cancelled":
                return False
            given: JsonObject = dict(arguments) if isinstance(arguments, dict) else {}
            given[str(stage["input"])] = f"job:{job.job_id}#{index}"
            place = Place(batch_id=batch.job_id, item=f"{job.item}>{index}", folder=batch.folder)
            try:
                await self._starter.start_in_batch(
                    provider, operation, given, place, tool=OPERATION, asked=asked
                )
            except CallError as error:
                await self._warn(batch, error)
                return False
        return True

    @staticmethod
    def missing(report: Report) -> list[Followed]:
        """Return the outputs of the first stage without a job of the second."""
        batch = report.batch
        if not isinstance(batch.arguments.get("then"), dict) or batch.status == "cancelled":
            return []
        known = {job.item for job in report.jobs}
        return [
            (job, output.index)
            for job in report.jobs
            if job.status == "completed" and ">" not in (job.item or "")
            for output in job.outputs
            if f"{job.item}>{output.index}" not in known
        ]

    async def _would_ask(self, batch: Job, tool: str, job: Job, more: int) -> bool:
        """Tell whether the person would be asked for the batch with so many jobs more."""
        if OPERATION in self._context.settings.approval.never_ask:
            return False
        costs: Counter[tuple[str, Unit]] = Counter()
        report = await self._reports.of(batch.job_id)
        for each in report.jobs:
            if each.cost is None:
                continue
            costs[each.provider, each.cost.unit] += each.cost.amount  # pyright: ignore[reportArgumentType] -- amounts may be fractions
            if each.item == f"{job.item}>0" and each.operation == tool:
                costs[each.provider, each.cost.unit] += each.cost.amount * more  # pyright: ignore[reportArgumentType] -- amounts may be fractions
        return self._context.tariff.question_for_all(costs) is not None

    async def _warn(self, batch: Job, error: CallError) -> None:
        """Add a warning to the batch: its second stage was not continued, why, and what helps."""
        live = await self._context.registry.get(batch.owner, batch.job_id)
        said = f"{STOPPED}: {error.failure.message}; retry_batch asks for what is left"
        if live is not None:
            await self._context.registry.update(
                live,
                lambda job: (
                    None if said in job.warnings else job.next(warnings=(*job.warnings, said))
                ),
            )


def went_on(batch: Job) -> tuple[str, ...]:
    """Return a batch's warnings without those that the second stage did not go on."""
    return tuple(each for each in batch.warnings if not each.startswith(STOPPED))


def _not_approved(job: Job, more: int, tool: str) -> CallError:
    """Say that a job has more outputs than the person's yes to the batch was for."""
    return call_error(
        "declined",
        f"{job.job_id} has {more} outputs more than were planned, and nobody has approved "
        f"{tool} for them",
        "retry_batch asks the person for them",
    )
