"""The engine: one object with everything that tools do.

`running` builds one for each lifespan. It opens the journal, takes over the jobs of dead processes,
and at the end lets open attempts finish.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from darkroom.core.deadlines import ANSWER_SECONDS
from darkroom.core.errors import (
    CallError,
    ConfigurationError,
    JournalError,
    Stale,
    call_error,
)
from darkroom.core.log import log
from darkroom.engine.progress import wait_telling
from darkroom.jobs.model import LOCAL_OWNER, Attempt
from darkroom.providers.credentials import Credentials
from darkroom.providers.operations import JobOperation
from darkroom.providers.params import Admitted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from anyio.abc import TaskGroup

    from darkroom.config.settings import Settings
    from darkroom.core.json_types import JsonObject
    from darkroom.engine.batches.service import Batches
    from darkroom.engine.calls import Caller
    from darkroom.engine.dependencies import Dependencies
    from darkroom.engine.person import Person
    from darkroom.engine.policy_gate import PolicyGate
    from darkroom.engine.resolution import Resolution
    from darkroom.engine.runtime import Runtime
    from darkroom.engine.starts import Started, Starter
    from darkroom.jobs.model import Approval, Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.jobs.store import Query
    from darkroom.providers.operations import CallOperation, CheckOperation
    from darkroom.providers.params import CheckParams, Params, StartParams
    from darkroom.providers.provider import Provider
    from darkroom.results.outputs import Outputs


LOOK_SECONDS = 5.0
"""How long a check without a wait takes to poll an unknown job once more."""

OPEN_AGAIN_SECONDS = 15.0
"""How often a journal is tried again that could not be opened."""

QUIET_SECONDS = 0.25
"""How long the journal stays closed while no tool is called: hosts list the tools first."""


class Engine:
    """Starts and checks jobs, runs batches and makes calls, for one owner in one process.

    The parts that need the journal are in `Runtime`, which is opened in the background; methods
    that need it wait for it.
    """

    def __init__(
        self, providers: Iterable[Provider], settings: Settings, dependencies: Dependencies
    ) -> None:
        self.providers = {provider.name: provider for provider in providers}
        self.settings = settings
        self.credentials = Credentials(dependencies.environment, settings)
        self.clock = dependencies.clock
        self.admitted = Admitted(
            self.credentials.loopback_origins(tuple(self.providers.values())),
            (".sandbox.test",) if dependencies.sandbox is not None else (),
        )
        self.owner = LOCAL_OWNER
        self._dependencies = dependencies
        self._wanted = anyio.Event()
        self._ready = anyio.Event()
        self._broken: ConfigurationError | JournalError | None = None
        self._runtime: Runtime | None = None
        self._batches: Batches | None = None
        self._starter: Starter | None = None
        self._watchers: list[Callable[[Job], None]] = []

    # --- opening and closing ---

    async def run(self, tasks: TaskGroup) -> None:
        """Open the journal, take over the jobs of dead processes, and start the scheduler.

        A journal that cannot be used is tried again until it can. What is needed is imported then
        and not before, here and below: the first list of tools waits for none of it.
        """
        with anyio.move_on_after(QUIET_SECONDS):
            await self._wanted.wait()
        while True:
            try:
                await self._open(tasks)
            except (ConfigurationError, JournalError) as error:
                if str(error) != str(self._broken):
                    log.error("%s", error)
                self._broken = error
            except BaseException:
                self._broken = ConfigurationError("the server was stopped before it was ready")
                raise
            else:
                self._broken = None
                return
            finally:
                self._ready.set()
            await anyio.sleep(OPEN_AGAIN_SECONDS)

    async def _open(self, tasks: TaskGroup) -> None:
        """Open what is not open yet, and take up what dead processes left."""
        from darkroom.engine.batches.service import Batches  # noqa: PLC0415 -- see `run`
        from darkroom.engine.recovery import (  # noqa: PLC0415 -- see `run`
            recover,
            watch_neighbours,
        )
        from darkroom.engine.retention import Pruner  # noqa: PLC0415 -- see `run`
        from darkroom.engine.runtime import open_runtime  # noqa: PLC0415 -- see `run`
        from darkroom.engine.starts import Starter  # noqa: PLC0415 -- see `run`

        runtime = self._runtime
        if runtime is None:
            runtime = await open_runtime(
                self.providers,
                self.settings,
                self._dependencies,
                self.credentials,
                self.admitted,
                tasks,
            )
            tasks.start_soon(runtime.context.schedule.run)
            if runtime.liveness.beat_seconds is not None:
                tasks.start_soon(runtime.stay_alive)
            tasks.start_soon(self._stop_waits, runtime)
            runtime.context.registry.watchers.append(self._tell)
            self._runtime = runtime
        await recover(runtime)
        if runtime.liveness.shared:
            runtime.submitter.take_over = lambda: recover(runtime)
            watch_neighbours(runtime)
        if self._starter is None:
            self._starter = Starter(runtime, self.owner, self._guard(runtime))
        if self._batches is None:
            self._batches = Batches(runtime, self.owner, self.providers, self._starter)
        await self._batches.take_up()
        Pruner(runtime)
        runtime.context.spawn(runtime.downloader.resume, self.owner)

    def _tell(self, job: Job) -> None:
        for watcher in self._watchers:
            watcher(job)

    def _guard(self, runtime: Runtime) -> PolicyGate | None:
        """Return the policy gate that the configuration asks for.

        Raises
        ------
        ConfigurationError: the named provider has no policy; `settings.load` reports this earlier.
        """
        name = self.settings.guard.provider
        if name is None:
            return None
        from darkroom.engine.calls import Caller  # noqa: PLC0415 -- needed with a guard
        from darkroom.engine.policy_gate import PolicyGate  # noqa: PLC0415 -- as above

        provider = self.providers.get(name)
        if provider is None or provider.policy is None:
            raise ConfigurationError(f"guard.provider: no provider {name!r} has a policy")
        return PolicyGate(
            runtime, Caller(runtime, self.owner, self.find), provider, provider.policy
        )

    async def batches(self) -> Batches:
        """Return the batches of the owner."""
        await self.runtime()
        if self._batches is None:
            raise TypeError("the engine has started without its batches")
        return self._batches

    async def caller(self) -> Caller:
        """Return the object that makes calls for the owner."""
        from darkroom.engine.calls import Caller  # noqa: PLC0415 -- needed with the first call

        return Caller(await self.runtime(), self.owner, self.find)

    async def _stop_waits(self, runtime: Runtime) -> None:
        """Let every wait for a job return when the process is asked to end."""
        if self._dependencies.stopping is None:
            return
        await self._dependencies.stopping.wait()
        runtime.context.stopping = True
        for live in runtime.context.registry:
            live.wake()

    async def drain(self) -> None:
        """Let open attempts finish, up to their deadline."""
        if self._runtime is not None:
            await self._runtime.drain()

    async def close(self) -> None:
        """Close everything; no task of the engine may be running."""
        if self._runtime is not None:
            await self._runtime.close()

    async def broken(self) -> ConfigurationError | JournalError | None:
        """Wait until the engine has started; return why it could not, or None."""
        self._wanted.set()
        await self._ready.wait()
        return self._broken

    async def runtime(self) -> Runtime:
        """Return the parts that need the journal; wait until it is open.

        Raises
        ------
        CallError: ``journal_unavailable`` or ``not_configured``, if the journal cannot be used now.
        """
        broken = await self.broken()
        if isinstance(broken, JournalError):
            raise CallError(broken.failure)
        if self._runtime is None or broken is not None:
            raise call_error(
                "not_configured",
                f"{broken}; nothing was sent",
                f"ask the person to correct it; it is tried again every {OPEN_AGAIN_SECONDS:.0f} s",
            )
        return self._runtime

    # --- jobs ---

    async def start(
        self, provider: Provider, operation: JobOperation, params: StartParams, person: Person
    ) -> Started:
        """Start a job; see `Starter.start`."""
        await self.runtime()
        if self._starter is None:
            raise TypeError("the engine has started without its starter")
        return await self._starter.start(provider, operation, params, person)

    async def answer(self, live: LiveJob, to: Approval, *, yes: bool) -> None:
        """Process the person's answer to a job's question; an answer that is too late is ignored.

        Raises
        ------
        CallError, JournalError: the answer was not processed; the question remains.
        """
        from darkroom.engine.approvals import answer  # noqa: PLC0415 -- see `run`

        runtime, starter = await self.runtime(), self._starter
        if starter is None:
            raise TypeError("the engine has started without its starter")
        await runtime.context.detached(lambda: answer(runtime, starter, live, to, yes=yes))

    async def job(self, job_id: str) -> LiveJob | None:
        """Return one of the owner's jobs by our id; a dead process's job is taken over first."""
        runtime = await self.runtime()
        registry = runtime.context.registry
        live = await registry.get(job_id)
        if live is None or live.job.owner != self.owner:
            return None
        if live.job.ended or live.job.holder == registry.holder:
            return live
        from darkroom.engine.recovery import recover_from  # noqa: PLC0415 -- see `run`

        if await recover_from(runtime, [live.job.holder]):
            return await registry.get(job_id)
        return live

    async def jobs(self, query: Query) -> list[Job]:
        """Return the jobs that match, newest first; those of dead processes are taken over first."""
        from darkroom.engine.recovery import recover_from  # noqa: PLC0415 -- see `run`

        runtime = await self.runtime()
        store = runtime.context.registry.store
        holders = await store.holders()
        try:
            await recover_from(runtime, holders)
        except JournalError as error:  # the jobs that are stored can still be read
            log.error("%s", error)
        return [self.latest(job) for job in await store.list(query)]

    def wait_seconds(self, asked: int | None) -> int:
        """Return how long a check waits: as the call says, or as ``[serve] wait_seconds`` does."""
        return self.settings.serve.wait_seconds if asked is None else asked

    async def find(self, provider: Provider, job_id: str) -> LiveJob | None:
        """Return a job of this provider by our id or the provider's."""
        live = await self.job(job_id)
        if live is None:
            store = (await self.runtime()).context.registry.store
            row = await store.find(self.owner, provider.name, job_id)
            live = await self.job(row.job_id) if row is not None else None
        return live if live is not None and live.job.provider == provider.name else None

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
            from darkroom.engine.adoption import adopt  # noqa: PLC0415 -- see `run`

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
        from darkroom.engine.resolution import settle  # noqa: PLC0415 -- see `run`

        live = await self.job(job_id)
        if live is None:
            raise call_error(
                "not_found", f"there is no job {job_id}", "list_jobs shows the jobs known here"
            )
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
        if self._runtime is None or live.job.ended or live.job.status == "unknown":
            return None
        return self._runtime.poller.next_look(live.job)

    def check_tool(self, job: Job) -> str:
        """Return the tool that checks a job."""
        operation = self.providers[job.provider].operation(job.operation)
        return operation.check_tool if isinstance(operation, JobOperation) else "list_jobs"

    def latest(self, job: Job) -> Job:
        """Return a job as this process knows it, which may be newer than its row."""
        live = (
            self._runtime.context.registry.known(job.job_id) if self._runtime is not None else None
        )
        return live.job if live is not None and live.job.version >= job.version else job

    async def outputs(self) -> Outputs:
        """Return the finished outputs of jobs, for tools that show or copy them."""
        return (await self.runtime()).outputs

    def watch(self, watcher: Callable[[Job], None]) -> None:
        """Call ``watcher`` with every job of this process that has changed."""
        self._watchers.append(watcher)

    # --- calls ---

    async def call(
        self, provider: Provider, call: CallOperation, params: Params, person: Person
    ) -> JsonObject:
        """Make a call that answers at once; see `Caller.call`."""
        from darkroom.engine.calls import Caller  # noqa: PLC0415 -- see `run`

        caller = Caller(await self.runtime(), self.owner, self.find)
        return await caller.call(provider, call, params, person)


@asynccontextmanager
async def running(
    providers: Iterable[Provider], settings: Settings, dependencies: Dependencies
) -> AsyncGenerator[Engine]:
    """Run an engine; when the context ends, open attempts finish within their deadline."""
    engine = Engine(providers, settings, dependencies)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run, tasks)
            try:
                yield engine
            finally:
                await engine.drain()
                tasks.cancel_scope.cancel()
    finally:
        await engine.close()
