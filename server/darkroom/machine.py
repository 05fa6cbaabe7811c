"""The machine: what every tool needs done, behind one door.

Built anew for each lifespan by `running`, which opens the journal, takes up what a dead process
left, and at the end lets open attempts finish.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from darkroom.core import log
from darkroom.credentials import Vault
from darkroom.errors import CallError, ConfigurationError, JournalError, JsonObject, call_error
from darkroom.jobs.model import LOCAL_OWNER, Job, digest
from darkroom.operation import UNREADABLE, Admitted
from darkroom.operation import Job as JobOperation
from darkroom.telling import wait_telling

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from anyio.abc import TaskGroup

    from darkroom.approval import Person
    from darkroom.batches.batch import Batches
    from darkroom.calling import Caller
    from darkroom.guard import Guard
    from darkroom.jobs.model import Approval
    from darkroom.jobs.registry import Live
    from darkroom.jobs.store import Query
    from darkroom.operation import Call, Check, CheckParams, Params, Provider, StartParams
    from darkroom.results.shelf import Shelf
    from darkroom.settings import Settings
    from darkroom.settling import Verdict
    from darkroom.starting import Started, Starter
    from darkroom.works import Works
    from darkroom.world import World


ANSWER_SECONDS = 43.0
"""A check answers by then, picking up a job that was started elsewhere included."""

LOOK_SECONDS = 5.0
"""How long a check without a wait asks once more about a job that was accepted and not seen."""

QUIET_SECONDS = 0.25
"""How long the journal stays closed while no tool is called: a host first asks for the list."""


class Machine:
    """Starts, follows and answers for jobs; makes calls; for one owner of one process."""

    def __init__(self, providers: Iterable[Provider], settings: Settings, world: World) -> None:
        self.providers = {provider.name: provider for provider in providers}
        self.settings = settings
        self.vault = Vault(world.environment, settings)
        self.clock = world.clock
        self.admitted = Admitted(
            self.vault.loopback_origins(tuple(self.providers.values())),
            (".sandbox.test",) if world.sandbox is not None else (),
        )
        self.owner = LOCAL_OWNER
        self._world = world
        self._wanted = anyio.Event()
        self._ready = anyio.Event()
        self._adopting = anyio.Lock()
        self._broken: ConfigurationError | JournalError | None = None
        self._works: Works | None = None
        self._batches: Batches | None = None
        self._starter: Starter | None = None
        self._watchers: list[Callable[[Job], None]] = []

    # --- opening and closing ---

    async def run(self, tasks: TaskGroup) -> None:
        """Open the journal, take up what dead processes left, and follow the schedule.

        What that needs is imported then and not before, here and below: the first list of tools
        waits for none of it.
        """
        try:
            with anyio.move_on_after(QUIET_SECONDS):
                await self._wanted.wait()
            from darkroom.batches.batch import Batches  # noqa: PLC0415 -- as said above
            from darkroom.pruning import Pruner  # noqa: PLC0415 -- as said above
            from darkroom.recovery import recover  # noqa: PLC0415 -- as said above
            from darkroom.starting import Starter  # noqa: PLC0415 -- as said above
            from darkroom.works import open_works  # noqa: PLC0415 -- as said above

            works = await open_works(
                self.providers, self.settings, self._world, self.vault, self.admitted, tasks
            )
            tasks.start_soon(works.core.schedule.run)
            tasks.start_soon(self._stop_waits, works)
            works.core.registry.watchers.append(self._tell)
            self._works = works
            await recover(works)
            if works.lease is not None:
                works.submitter.take_over = lambda: recover(works)
            self._starter = Starter(works, self.owner, self._guard(works))
            self._batches = Batches(works, self.owner, self.providers, self._starter)
            await self._batches.take_up()
        except (ConfigurationError, JournalError) as error:
            self._broken = error
            log.error("%s", error)
            return
        except BaseException:
            self._broken = ConfigurationError("the server was stopped before it was ready")
            raise
        finally:
            self._ready.set()
        Pruner(works)
        works.core.spawn(works.collector.resume, self.owner)

    def _tell(self, job: Job) -> None:
        for watcher in self._watchers:
            watcher(job)

    def _guard(self, works: Works) -> Guard | None:
        """Return the policy gate that the configuration asks for.

        Raises
        ------
        ConfigurationError: the provider that it names judges nothing; `settings.load` says so before.
        """
        name = self.settings.guard.provider
        if name is None:
            return None
        from darkroom.calling import Caller  # noqa: PLC0415 -- needed with a guard
        from darkroom.guard import Guard  # noqa: PLC0415 -- as above

        provider = self.providers.get(name)
        if provider is None or provider.policy is None:
            raise ConfigurationError(f"guard.provider: no provider {name!r} has a policy")
        return Guard(works, Caller(works, self.owner, self.find), provider, provider.policy)

    async def batches(self) -> Batches:
        """Return the room of the batches."""
        await self.works()
        if self._batches is None:
            raise TypeError("the machine is ready without its batches")
        return self._batches

    async def caller(self) -> Caller:
        """Return what makes calls for the owner."""
        from darkroom.calling import Caller  # noqa: PLC0415 -- needed with the first call

        return Caller(await self.works(), self.owner, self.find)

    async def _stop_waits(self, works: Works) -> None:
        """Let every wait for a job return once the process is asked to end."""
        if self._world.stopping is None:
            return
        await self._world.stopping.wait()
        works.core.stopping = True
        for live in works.core.registry:
            live.wake()

    async def drain(self) -> None:
        """Let open attempts finish, up to their deadline."""
        if self._works is not None:
            await self._works.drain()

    async def close(self) -> None:
        """Close everything; no task of the machine runs any more."""
        if self._works is not None:
            await self._works.close()

    async def broken(self) -> ConfigurationError | JournalError | None:
        """Return why the machine could not start; wait while it starts. None: it runs."""
        self._wanted.set()
        await self._ready.wait()
        return self._broken

    async def works(self) -> Works:
        """Return the opened parts; wait while the journal is being opened.

        Raises
        ------
        CallError: ``not_configured``, if the journal cannot be used.
        """
        broken = await self.broken()
        if self._works is None or broken is not None:
            raise call_error(
                "not_configured",
                f"{broken}; nothing was sent",
                "ask the person to correct it and to start this server again",
            )
        return self._works

    # --- jobs ---

    async def start(
        self, provider: Provider, operation: JobOperation, params: StartParams, person: Person
    ) -> Started:
        """Start a job; see `Starter.start`."""
        await self.works()
        if self._starter is None:
            raise TypeError("the machine is ready without its starter")
        return await self._starter.start(provider, operation, params, person)

    async def answer(self, live: Live, to: Approval, *, yes: bool) -> None:
        """Take the person's answer to what a job asks; one that comes too late is ignored.

        Raises
        ------
        CallError, JournalError: the answer was not taken; the job asks still.
        """
        from darkroom.answering import answer  # noqa: PLC0415 -- see `run`

        works, starter = await self.works(), self._starter
        if starter is None:
            raise TypeError("the machine is ready without its starter")
        await works.core.detached(lambda: answer(works, starter, live, to, yes=yes))

    async def job(self, job_id: str) -> Live | None:
        """Return one of the owner's jobs by our id; a dead process's job is taken over first."""
        works = await self.works()
        registry = works.core.registry
        live = await registry.get(job_id)
        if live is None or live.job.owner != self.owner:
            return None
        if live.job.ended or live.job.holder == registry.holder:
            return live
        from darkroom.recovery import recover_from  # noqa: PLC0415 -- see `run`

        if await recover_from(works, [live.job.holder]):
            return await registry.get(job_id)
        return live

    async def jobs(self, query: Query) -> list[Job]:
        """Return the jobs that match, newest first; those of dead processes are taken over first."""
        from darkroom.recovery import recover_from  # noqa: PLC0415 -- see `run`

        works = await self.works()
        store = works.core.registry.store
        holders = await store.holders()
        try:
            await recover_from(works, holders)
        except JournalError as error:  # what is there can be read all the same
            log.error("%s", error)
        return [self.latest(job) for job in await store.list(query)]

    async def find(self, provider: Provider, job_id: str) -> Live | None:
        """Return a job of this provider by our id or the provider's."""
        live = await self.job(job_id)
        if live is None:
            store = (await self.works()).core.registry.store
            row = await store.find(self.owner, provider.name, job_id)
            live = await self.job(row.job_id) if row is not None else None
        return live if live is not None and live.job.provider == provider.name else None

    async def check(
        self, provider: Provider, check: Check, params: CheckParams, person: Person
    ) -> Live:
        """Return a job as soon as it ends or the wait is over; the person is told meanwhile.

        Raises
        ------
        CallError: ``not_found``, or the provider could not be asked about a job that is not here.
        """
        began = anyio.current_time()
        works = await self.works()
        live = await self.find(provider, params.job_id)
        if live is None:
            live = await self._adopt(works, provider, check, params)
        elif (
            check.adopted is not None
            and not live.items
            and live.job.status
            in {
                "running",
                "unknown",
            }
        ):
            arguments = {**live.job.arguments, **check.adopted(params)}
            if arguments != live.job.arguments:
                await works.core.record(live, lambda job: job.next(arguments=arguments), ())
        if live.job.status == "unknown":
            unseen = live
            with anyio.move_on_after(max(params.wait_seconds, LOOK_SECONDS)):
                await works.core.detached(lambda: works.poller.look_again(unseen))
        works.collector.take_up(live)
        return await wait_telling(
            works.core.registry,
            live,
            min(params.wait_seconds, began + ANSWER_SECONDS - anyio.current_time()),
            person,
            until=lambda live: (
                (live.settled and not works.collector.awaited(live)) or works.core.stopping
            ),
        )

    async def _adopt(
        self, works: Works, provider: Provider, check: Check, params: CheckParams
    ) -> Live:
        """Pick up a job that was started elsewhere, by the provider's id."""
        if params.job_id.startswith(f"{provider.name}_"):
            raise call_error(
                "not_found",
                f"there is no job {params.job_id}",
                "list_jobs shows the jobs known here; ended ones are forgotten after a time",
            )
        core, now = works.core, self.clock()
        operation = core.operations[check.adopts]
        key = self.vault.key(provider, operation.credential, owner=self.owner)
        channel = core.channels[provider.name]
        answer = await channel.read(operation.state.request(params.job_id), key)
        if not answer.ok:
            from darkroom.jobs.attempts import describe  # noqa: PLC0415 -- see `run`

            raise CallError(describe(provider, answer))
        try:
            operation.state.read(answer)
        except UNREADABLE:
            error = call_error(
                "bad_response",
                f"{provider.title} answered something that cannot be understood",
                "check the id",
            )
            raise error from None
        job = Job(
            job_id=f"{provider.name}_{core.new_id()}",
            owner=self.owner,
            provider=provider.name,
            operation=operation.name,
            status="running",
            arguments=check.adopted(params) if check.adopted is not None else {},
            intent=digest(self.owner, operation.name, "adopted", params.job_id),
            fingerprint=key.fingerprint,
            created_at=now,
            updated_at=now,
            holder=core.registry.holder,
            provider_job_id=params.job_id,
            sandbox=channel.sandbox,
        )

        async def take() -> Live:
            async with self._adopting:
                known = await self.find(provider, params.job_id)
                if known is not None:
                    return known
                await core.registry.store.create(job, [], identical_since=None)
                live = core.registry.add(job)
            await works.poller.take_in(live, answer, key)
            return live

        return await core.detached(take)

    async def resolve(
        self, job_id: str, verdict: Verdict, provider_job_id: str | None, person: Person
    ) -> Live:
        """Settle an unknown job by the person's word; see `settle`."""
        from darkroom.settling import settle  # noqa: PLC0415 -- see `run`

        live = await self.job(job_id)
        if live is None:
            raise call_error(
                "not_found", f"there is no job {job_id}", "list_jobs shows the jobs known here"
            )
        return await settle(await self.works(), live, verdict, provider_job_id, person)

    def poll_after(self, live: Live) -> int | None:
        """Return the whole seconds after which there can be news; None once the job ended."""
        if self._works is None or live.job.ended or live.job.status == "unknown":
            return None
        return self._works.poller.next_look(live.job)

    def check_tool(self, job: Job) -> str:
        """Return the tool that checks a job."""
        operation = self.providers[job.provider].operation(job.operation)
        return operation.check_tool if isinstance(operation, JobOperation) else "list_jobs"

    def latest(self, job: Job) -> Job:
        """Return a job as this process knows it, which may be newer than its row."""
        live = self._works.core.registry.known(job.job_id) if self._works is not None else None
        return live.job if live is not None and live.job.version >= job.version else job

    async def shelf(self) -> Shelf:
        """Return the finished outputs of jobs, for tools that show or copy them."""
        return (await self.works()).shelf

    def watch(self, watcher: Callable[[Job], None]) -> None:
        """Call ``watcher`` with every job of this process that has changed."""
        self._watchers.append(watcher)

    # --- calls ---

    async def call(
        self, provider: Provider, call: Call, params: Params, person: Person
    ) -> JsonObject:
        """Make a call that answers at once; see `Caller.call`."""
        from darkroom.calling import Caller  # noqa: PLC0415 -- see `run`

        caller = Caller(await self.works(), self.owner, self.find)
        return await caller.call(provider, call, params, person)


@asynccontextmanager
async def running(
    providers: Iterable[Provider], settings: Settings, world: World
) -> AsyncGenerator[Machine]:
    """Run a machine; on leaving, open attempts finish up to their deadline."""
    machine = Machine(providers, settings, world)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(machine.run, tasks)
            try:
                yield machine
            finally:
                await machine.drain()
                tasks.cancel_scope.cancel()
    finally:
        await machine.close()
