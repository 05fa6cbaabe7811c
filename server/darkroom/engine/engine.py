"""The engine: one object with everything that tools do, for one owner.

`running` opens a `Process` for each lifespan and returns the engine of the one person who uses it;
`Engine.of` returns that of somebody else.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from darkroom.core.deadlines import ANSWER_SECONDS
from darkroom.core.errors import (
    ConfigurationError,
    JournalError,
    Stale,
    unknown_job,
)
from darkroom.engine.process import Process
from darkroom.engine.progress import wait_telling
from darkroom.jobs.model import LOCAL_OWNER, Attempt
from darkroom.providers.operations import JobOperation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from darkroom.config.settings import Settings
    from darkroom.core.json_types import JsonObject
    from darkroom.engine.batches.service import Batches
    from darkroom.engine.calls import Caller
    from darkroom.engine.dependencies import Dependencies
    from darkroom.engine.owners import Owned
    from darkroom.engine.person import Person
    from darkroom.engine.resolution import Resolution
    from darkroom.engine.runtime import Runtime
    from darkroom.engine.started import Started
    from darkroom.jobs.model import Approval, Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.jobs.store import Query
    from darkroom.providers.operations import CallOperation, CheckOperation
    from darkroom.providers.params import CheckParams, Params, StartParams
    from darkroom.providers.provider import Provider
    from darkroom.providers.values import Output
    from darkroom.results.outputs import Outputs


LOOK_SECONDS = 5.0
"""How long a check without a wait takes to poll an unknown job once more."""


class Engine:
    """Starts and checks jobs, runs batches and makes calls, for one owner.

    It holds nothing but the name of its owner: what it uses is in the `Process`, which all owners
    share. Every read and every start names the owner, so that a job of somebody else does not exist
    here. Methods that need the journal wait for it.
    """

    def __init__(
        self, process: Process, owner: str = LOCAL_OWNER, *, whole_account: bool = True
    ) -> None:
        self.process = process
        self.owner = owner
        self.whole_account = whole_account
        self.providers = process.providers
        self.settings = process.settings
        self.credentials = process.credentials
        self.clock = process.clock
        self.admitted = process.admitted

    def of(self, owner: str, *, whole_account: bool = True) -> Engine:
        """Return the engine of another owner, in the same process.

        ``whole_account``: whether they may see and change what belongs to everybody who shares a
        provider's account: its jobs that nobody here owns, its usage, its keys.
        """
        return Engine(self.process, owner, whole_account=whole_account)

    async def _owned(self) -> Owned:
        return (await self.process.owners()).of(self.owner)

    async def runtime(self) -> Runtime:
        """Return the parts that all owners share; wait until the journal is open.

        What is read there is not limited to the owner: it is for those who serve all owners.

        Raises
        ------
        CallError: ``journal_unavailable`` or ``not_configured``, if the journal cannot be used now.
        """
        return (await self.process.owners()).runtime

    async def broken(self) -> ConfigurationError | JournalError | None:
        """Wait until the engine has started; return why it could not, or None."""
        return await self.process.broken()

    async def batches(self) -> Batches:
        """Return the batches of the owner."""
        return (await self._owned()).batches

    async def caller(self) -> Caller:
        """Return the object that makes calls for the owner."""
        return (await self._owned()).caller

    # --- jobs ---

    async def start(
        self, provider: Provider, operation: JobOperation, params: StartParams, person: Person
    ) -> Started:
        """Start a job; see `Starter.start`."""
        return await (await self._owned()).starter.start(provider, operation, params, person)

    async def answer(self, live: LiveJob, to: Approval, *, yes: bool) -> None:
        """Process the person's answer to a job's question; an answer that is too late is ignored.

        Raises
        ------
        CallError, JournalError: the answer was not processed; the question remains.
        """
        from darkroom.engine.approvals import answer  # noqa: PLC0415 -- see `Process.run`

        owned = await self._owned()
        runtime = owned.runtime
        await runtime.context.detached(lambda: answer(runtime, owned.starter, live, to, yes=yes))

    async def job(self, job_id: str) -> LiveJob | None:
        """Return one of the owner's jobs by our id; a dead process's job is taken over first."""
        return await (await self._owned()).job(job_id)

    async def jobs(self, query: Query) -> list[Job]:
        """Return the owner's jobs that match, newest first; see `Owned.jobs`."""
        return await (await self._owned()).jobs(query)

    def wait_seconds(self, asked: int | None) -> int:
        """Return how long a check waits: as the call says, or as ``[serve] wait_seconds`` does."""
        return self.settings.serve.wait_seconds if asked is None else asked

    async def find(self, provider: Provider, job_id: str) -> LiveJob | None:
        """Return the owner's job of this provider by our id or the provider's."""
        return await (await self._owned()).find(provider, job_id)

    async def check(
        self, provider: Provider, check: CheckOperation, params: CheckParams, person: Person
    ) -> LiveJob:
        """Return a job when it ends or the wait is over; the person sees progress meanwhile.

        Raises
        ------
        CallError: ``not_found``, or the provider could not be asked about a job that is not here.
        """
        began, wait_seconds = anyio.current_time(), self.wait_seconds(params.wait_seconds)
        runtime = await self.runtime()
        live = await self.find(provider, params.job_id)
        if live is None:
            from darkroom.engine.adoption import adopt  # noqa: PLC0415 -- see `Process.run`

            if not self.whole_account:
                raise unknown_job(params.job_id)
            live = await adopt(runtime, self.owner, self.find, provider, check, params)
        elif (
            check.adopted is not None
            and live.job.submitted_at is None  # it was started elsewhere
            and live.job.status in {"running", "unknown"}
        ):
            arguments = {**live.job.arguments, **check.adopted(params)}
            if arguments != live.job.arguments:
                await runtime.context.record(live, lambda job: job.next(arguments=arguments), ())
        if live.job.status == "unknown" or live.job.concluded:
            unseen = live
            with anyio.move_on_after(max(wait_seconds, LOOK_SECONDS)):
                await runtime.context.detached(lambda: runtime.poller.look_again(unseen))
        runtime.downloader.take_up(live)
        return await wait_telling(
            runtime.context.registry,
            live,
            min(wait_seconds, began + ANSWER_SECONDS - anyio.current_time()),
            person,
            until=lambda live: (
                (live.settled and not runtime.downloader.awaited(live)) or runtime.context.stopping
            ),
        )

    async def resolve(
        self, job_id: str, verdict: Resolution, provider_job_id: str | None, person: Person
    ) -> LiveJob:
        """Settle an unknown job by the person's word; see `settle`."""
        from darkroom.engine.resolution import settle  # noqa: PLC0415 -- see `Process.run`

        live = await self.job(job_id)
        if live is None:
            raise unknown_job(job_id)
        return await settle(await self.runtime(), live, verdict, provider_job_id, person)

    async def use_yes(self, serial: str, tool: str) -> bool:
        """Use the person's answer to one question; tell whether nobody has used it before.

        It is written down, for the same answer may come again, and to another server.
        """
        now, store = self.clock(), (await self.runtime()).context.registry.store
        used = Attempt(
            attempt_id=f"yes_{serial}",
            owner=self.owner,
            operation=tool,
            request_hash=serial,
            state="accepted",
            created_at=now,
            answered_at=now,
        )
        try:
            await store.write(None, [used])
        except Stale:
            return False
        return True

    def poll_after(self, live: LiveJob) -> int | None:
        """Return the seconds until the next poll; None if the job has ended or is unknown."""
        runtime = self.process.opened
        if runtime is None or live.job.ended or live.job.status == "unknown":
            return None
        return runtime.poller.next_look(live.job)

    def check_tool(self, job: Job) -> str:
        """Return the tool that checks a job."""
        operation = self.providers[job.provider].operation(job.operation)
        return operation.check_tool if isinstance(operation, JobOperation) else "list_jobs"

    @property
    def local(self) -> bool:
        """Whether the person is on this machine, so that a path means something to them."""
        return self.process.links is None

    def shown(self, job: Job) -> Job:
        """Return a job as its owner sees it: with links instead of paths, where they are elsewhere.

        What was looked up about an unknown job is for those who may see the whole account.
        """
        if not self.whole_account:  # it tells of the account: counters, and ids of others' jobs
            job = replace(job, evidence=None)
        if self.process.links is None:
            return job
        outputs = (self.shown_output(job.job_id, output) for output in job.outputs)
        return replace(job, outputs=tuple(outputs))

    def shown_output(self, job_id: str, output: Output) -> Output:
        """Return an output as the owner of its job sees it; see `shown`."""
        if self.process.links is None or output.file is None:
            return output
        link, until = self.process.links.make(self.owner, job_id, output.index)
        return replace(output, file=None, url=link, expires_at=until)

    async def outputs(self) -> Outputs:
        """Return the finished outputs of jobs, for tools that show or copy them."""
        return (await self.runtime()).outputs

    # --- calls ---

    async def call(
        self, provider: Provider, call: CallOperation, params: Params, person: Person
    ) -> JsonObject:
        """Make a call that answers at once; see `Caller.call`."""
        return await (await self._owned()).caller.call(
            provider, call, params, person, whole_account=self.whole_account
        )


@asynccontextmanager
async def running(
    providers: Iterable[Provider], settings: Settings, dependencies: Dependencies
) -> AsyncGenerator[Engine]:
    """Run the engine of one person; when the context ends, open attempts finish in their time."""
    process = Process(providers, settings, dependencies)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.run, tasks)
            try:
                yield Engine(process)
            finally:
                await process.drain()
                tasks.cancel_scope.cancel()
    finally:
        await process.close()
