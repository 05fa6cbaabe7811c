"""The machine: what every tool needs done, behind one door.

Built anew for each lifespan by `running`, which opens the journal, takes up what a dead process
left, and at the end lets open attempts finish.
"""

from __future__ import annotations

import random
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

from darkroom.arguments import canonical_arguments
from darkroom.channel import Channel
from darkroom.core import Core, log, new_id
from darkroom.credentials import Vault
from darkroom.errors import (
    CallError,
    ConfigurationError,
    JournalError,
    JsonObject,
    call_error,
    with_next_step,
)
from darkroom.http import Outlet
from darkroom.jobs.attempts import Accepted, Unknown, describe, judge, unknown
from darkroom.jobs.items import ItemSender
from darkroom.jobs.liveness import Lease, is_dead, sweep
from darkroom.jobs.model import LOCAL_OWNER, Attempt, Job, canonical, digest
from darkroom.jobs.poller import Poller
from darkroom.jobs.registry import Live, Registry
from darkroom.jobs.schedule import Heap
from darkroom.jobs.submission import Submitter
from darkroom.operation import Admitted, Call, Check, FanOut, Provider, build_request
from darkroom.operation import Job as JobOperation
from darkroom.results import Collector
from darkroom.spending import CapReached, Tariff

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping

    import httpx2
    from anyio.abc import TaskGroup

    from darkroom.approval import Person
    from darkroom.credentials import Key
    from darkroom.jobs.store import Store
    from darkroom.operation import Answer, CheckParams, Params, Request, StartParams
    from darkroom.settings import Settings

T = TypeVar("T")


class Run(Protocol):
    """Do blocking work (the journal, files) away from the event loop."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Return what ``work`` returns."""
        ...


START_ANSWER_SECONDS = 40.0
"""A start call answers by then, whatever the provider does; the attempt goes on."""

IDENTICAL = (
    "an identical call was made just now: this is its job, nothing new was started; "
    "to get several, use copies of start_batch or vary the arguments"
)

SHUTDOWN_SECONDS = 10.0
"""How long open attempts have to finish when the machine stops."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What the machine takes from outside, so that tests can give it other things.

    ``run``: where blocking work is done (the journal, files). ``transport``: for requests to
    providers, by provider name; None uses the network.
    """

    environment: Mapping[str, str]
    clock: Callable[[], float] = time.time
    chance: random.Random = field(default_factory=random.SystemRandom)
    new_id: Callable[[], str] = new_id
    run: Run | None = None
    transport: httpx2.AsyncBaseTransport | None = None
    sandbox: httpx2.AsyncBaseTransport | None = None
    """Answers for ``*.sandbox.test``, addresses to download included."""

    open_store: Callable[[Settings], Awaitable[Store]] | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A job, and what the caller should know about how it came to be."""

    live: Live
    warnings: tuple[str, ...] = ()


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
        self._ready = anyio.Event()
        self._broken: ConfigurationError | None = None
        self._opened: _Opened | None = None

    # --- opening and closing ---

    async def run(self, tasks: TaskGroup) -> None:
        """Open the journal, take up what dead processes left, and follow the schedule."""
        try:
            opened = await self._open(tasks)
        except (ConfigurationError, JournalError) as error:
            self._broken = ConfigurationError(str(error))
            log.error("%s", error)
            self._ready.set()
            return
        self._opened = opened
        tasks.start_soon(opened.core.schedule.run)
        await self._recover(opened)
        self._ready.set()
        await opened.core.registry.store.prune(
            self.clock() - self.settings.jobs.keep_days * 86_400.0
        )

    async def _open(self, tasks: TaskGroup) -> _Opened:
        world, settings = self._world, self.settings
        lease: Lease | None = None
        holder = world.new_id()
        run: Run = world.run or anyio.to_thread.run_sync
        if world.open_store is not None:
            store = await world.open_store(settings)
        elif settings.jobs.store == "memory":
            from darkroom.jobs.memory import MemoryStore  # noqa: PLC0415 -- one of two is needed

            store = MemoryStore()
        else:
            from darkroom.jobs.sqlite import SqliteStore  # noqa: PLC0415 -- one of two is needed

            taken = await run(lambda: Lease.take(settings.state_dir))
            lease, holder = taken, taken.holder
            store = await SqliteStore.open(settings.state_dir / "journal.sqlite", holder=holder)
        tariff = Tariff(settings, self.providers, holder)
        registry = Registry(store, holder, tariff)
        schedule = Heap()
        channels = {
            name: Channel(
                provider,
                settings.provider(name),
                Outlet(self.vault.base_url(provider), clock=world.clock, transport=world.transport),
                schedule,
                world.chance,
                sandbox=world.sandbox is not None,
            )
            for name, provider in self.providers.items()
        }
        core = Core(
            settings=settings,
            vault=self.vault,
            clock=world.clock,
            chance=world.chance,
            registry=registry,
            schedule=schedule,
            tariff=tariff,
            channels=channels,
            operations={
                operation.name: operation
                for provider in self.providers.values()
                for operation in provider.operations
                if isinstance(operation, JobOperation)
            },
            tasks=tasks,
            admitted=self.admitted,
            new_id=world.new_id,
        )

        def open_fetcher() -> Any:
            from darkroom.fetch import Fetcher  # noqa: PLC0415 -- as above

            return Fetcher(admitted=self.admitted.origins, sandbox=world.sandbox, offload=run)

        collector = Collector(core, open_fetcher, settings.results_folder, run)
        poller = Poller(core, collector)
        items = ItemSender(core, poller)
        return _Opened(core, poller, collector, items, Submitter(core, poller, items), lease)

    async def close(self) -> None:
        """Let open attempts finish, up to their deadline, and close everything."""
        opened = self._opened
        if opened is None:
            return
        core = opened.core
        core.closing = True
        with anyio.move_on_after(SHUTDOWN_SECONDS, shield=True):
            while core.open_attempts:
                await core.idle.wait()
        with anyio.CancelScope(shield=True):
            for channel in core.channels.values():
                await channel.outlet.aclose()
            await opened.collector.aclose()
            await core.registry.store.close()
            if opened.lease is not None:
                opened.lease.release()

    async def _get(self) -> _Opened:
        """Return the opened machine; wait for the journal if it is being opened."""
        await self._ready.wait()
        if self._opened is None:
            raise call_error(
                "not_configured",
                f"the journal cannot be used: {self._broken}",
                "ask the person to correct it; nothing was sent",
            )
        return self._opened

    # --- after a crash ---

    async def _recover(self, opened: _Opened) -> None:
        """Take over the jobs of dead processes. Nothing is marked failed because we were away."""
        core, lease = opened.core, opened.lease
        store = core.registry.store
        state_dir = self.settings.state_dir

        def dead(holder: str) -> bool:
            return lease is None or is_dead(state_dir, holder)

        for job in await store.claim(core.registry.holder, dead):
            if job.operation not in core.operations:
                continue
            await self._take_up(opened, core.registry.add(job))
        now = self.clock()
        for attempt in await store.unsettled(dead):
            state = "unknown" if attempt.state == "sent" else "refused"
            await store.write(None, [attempt.next(state=state, answered_at=now)])
        if lease is not None:
            await (self._world.run or anyio.to_thread.run_sync)(
                lambda: sweep(state_dir, {core.registry.holder})
            )

    async def _take_up(self, opened: _Opened, live: Live) -> None:
        core, job, now = opened.core, live.job, self.clock()
        operation = core.operations[job.operation]
        attempts = await core.registry.store.attempts(job.job_id)
        live.attempt = next((a for a in reversed(attempts) if a.item is None), None)
        live.items = {a.item: a for a in attempts if a.item is not None} or None
        left = operation.longest_seconds - (now - (job.submitted_at or job.created_at))
        lost = [
            a.next(
                state="unknown", answered_at=now, evidence={"what_happened": "the server stopped"}
            )
            for a in attempts
            if a.state == "sent"
        ]
        for attempt in lost:
            if attempt.item is not None and live.items is not None:
                live.items[attempt.item] = attempt
            else:
                live.attempt = attempt
        if job.status == "queued":
            opened.submitter.enqueue(live)
        elif job.status == "submitting":
            channel = core.channels[job.provider]
            fate = unknown(channel.provider, "the server stopped before an answer was recorded")
            opened.submitter.keep_slot(live, max(0.0, left))
            await core.record(
                live,
                lambda job: job.next(
                    status="unknown", updated_at=now, error=fate.failure, evidence=fate.evidence
                ),
                lost,
            )
        elif job.status == "unknown":
            opened.submitter.keep_slot(live, max(0.0, left))
        else:
            if lost:
                await core.record(live, lambda _: None, lost)
            core.channels[job.provider].lane(job.fingerprint).occupy(job.job_id)
            if live.items:
                opened.items.start(live)
            opened.poller.follow(live)

    # --- starting ---

    async def start(
        self, provider: Provider, operation: JobOperation, params: StartParams, person: Person
    ) -> Started:
        """Start a job, or return the one that the same intent has started.

        Returns as soon as the provider has accepted it, or at once where it has to wait.

        Raises
        ------
        CallError: it was refused; the row stays, with the same error.
        """
        opened = await self._get()
        key = self.vault.key(provider, operation.credential, owner=self.owner)
        draft = self._draft(opened.core, provider, operation, params, key)
        await self._approve(opened.core, provider, draft, person)
        started = await opened.core.detached(lambda: self._begin(opened, operation, params, draft))
        live = await opened.core.registry.wait(
            started.live, START_ANSWER_SECONDS, until=_has_left_or_waits
        )
        if live.job.error is not None and live.job.status in {"failed", "blocked"}:
            raise CallError(live.job.error)
        return Started(live, started.warnings)

    def _draft(
        self,
        core: Core,
        provider: Provider,
        operation: JobOperation,
        params: StartParams,
        key: Key,
    ) -> Job:
        """Return the row of the job that a start call asks for; it is written nowhere yet."""
        now = self.clock()
        arguments = canonical_arguments(params)
        channel = core.channels[provider.name]
        return Job(
            job_id=f"{provider.name}_{core.new_id()}",
            owner=self.owner,
            provider=provider.name,
            operation=operation.name,
            status="queued",
            arguments=arguments,
            intent=digest(self.owner, operation.name, canonical(arguments)),
            fingerprint=key.fingerprint,
            created_at=now,
            updated_at=now,
            holder=core.registry.holder,
            idempotency_key=params.idempotency_key,
            provider_job_id=operation.opened(params) if isinstance(operation, FanOut) else None,
            cost=operation.cost(params, channel.settings),
            sandbox=channel.sandbox,
        )

    def _identical_since(self) -> float | None:
        window = self.settings.jobs.identical_window_seconds
        return self.clock() - window if window else None

    async def _approve(self, core: Core, provider: Provider, draft: Job, person: Person) -> None:
        """Ask the person before a cost above the configured amount, unless nothing new would start."""
        if draft.cost is None or draft.operation in self.settings.approval.never_ask:
            return
        question = core.tariff.question(draft.operation, provider, draft.cost)
        if question is None:
            return
        try:
            known = await core.registry.store.foresee(
                draft,
                identical_since=self._identical_since(),
                entry=core.tariff.entry(draft),
                caps=core.tariff.caps(provider.name, draft.cost.unit, self.clock()),
            )
        except CapReached as reached:
            raise reached.error from None
        if known is None:
            await person.approve(draft.operation, question, draft.intent)

    async def _begin(
        self, opened: _Opened, operation: JobOperation, params: StartParams, draft: Job
    ) -> Started:
        core, now, job = opened.core, self.clock(), draft
        names: list[str | None] = [] if job.provider_job_id is not None else [None]
        if isinstance(operation, FanOut):
            names.extend(operation.items(params))
        attempts = [
            Attempt(
                attempt_id=core.new_id(),
                owner=self.owner,
                operation=operation.name,
                request_hash=job.intent,
                job_id=job.job_id,
                item=name,
                created_at=now,
            )
            for name in names
        ]
        unit = job.cost.unit if job.cost is not None else None
        try:
            created = await core.registry.store.create(
                job,
                attempts,
                identical_since=self._identical_since(),
                entry=core.tariff.entry(job),
                caps=core.tariff.caps(job.provider, unit, now) if unit is not None else (),
            )
        except JournalError as error:
            raise CallError(error.failure) from None
        except CapReached as reached:
            raise reached.error from None
        if not created.made:
            return await self._again(opened, created.job, job.intent, by_key=created.by_key)
        live = core.registry.add(job)
        live.attempt = next((a for a in attempts if a.item is None), None)
        live.items = {a.item: a for a in attempts if a.item is not None} or None
        opened.submitter.enqueue(live)
        return Started(live, await self._beside_unknown(opened, job))

    async def _again(self, opened: _Opened, job: Job, intent: str, *, by_key: bool) -> Started:
        """Return the job that the same intent has started before."""
        if by_key and job.intent != intent:
            raise call_error(
                "conflict",
                f"this idempotency_key belongs to {job.job_id}, started with other arguments",
                "leave idempotency_key out, or repeat the call with the arguments of then",
            )
        live = await self._known(opened, job.job_id) or Live(job)
        if by_key:
            return Started(live)
        if job.status == "unknown":
            return Started(
                live,
                ("an identical call is of unknown fate; it was not sent again",),
            )
        return Started(live, (IDENTICAL,))

    async def _beside_unknown(self, opened: _Opened, job: Job) -> tuple[str, ...]:
        if job.idempotency_key is None:
            return ()
        others = [
            live.job.job_id
            for live in opened.core.registry
            if live.job.status == "unknown" and live.job.intent == job.intent
        ]
        return tuple(f"{other} has the same arguments and is of unknown fate" for other in others)

    # --- following ---

    async def _known(self, opened: _Opened, job_id: str) -> Live | None:
        live = await opened.core.registry.get(job_id)
        if live is None or live.job.owner != self.owner:
            return None
        holder = live.job.holder
        foreign = holder not in {None, opened.core.registry.holder} and not live.job.ended
        if foreign and opened.lease is not None and is_dead(self.settings.state_dir, holder or ""):
            await self._recover(opened)
            return await opened.core.registry.get(job_id)
        return live

    async def find(self, provider: Provider, job_id: str) -> Live | None:
        """Return a job of this provider by our id or the provider's."""
        opened = await self._get()
        live = await self._known(opened, job_id)
        if live is None:
            live = await opened.core.registry.find(self.owner, provider.name, job_id)
        return live if live is not None and live.job.provider == provider.name else None

    async def check(self, provider: Provider, check: Check, params: CheckParams) -> Live:
        """Return a job as soon as it ends or the wait is over; see `Check`.

        Raises
        ------
        CallError: ``not_found``, or the provider could not be asked about a job that is not here.
        """
        opened = await self._get()
        live = await self.find(provider, params.job_id)
        if live is None:
            live = await self._adopt(opened, provider, check, params)
        self._fetch_what_is_missing(opened, live)
        return await opened.core.registry.wait(
            live, params.wait_seconds, until=lambda live: live.settled
        )

    def _fetch_what_is_missing(self, opened: _Opened, live: Live) -> None:
        """Take up downloads that an earlier process did not finish."""
        if live.job.status != "completed" or live.fetching or live.job.warnings:
            return
        if opened.collector.wanted(live.job.outputs):
            live.fetching = True
            opened.core.spawn(opened.collector.collect, live)

    async def _adopt(
        self, opened: _Opened, provider: Provider, check: Check, params: CheckParams
    ) -> Live:
        """Pick up a job that was started elsewhere, by the provider's id."""
        if params.job_id.startswith(f"{provider.name}_"):
            raise call_error(
                "not_found",
                f"there is no job {params.job_id}",
                "list_jobs shows the jobs known here; ended ones are forgotten after a time",
            )
        core, now = opened.core, self.clock()
        operation = core.operations[check.adopts]
        key = self.vault.key(provider, operation.credential, owner=self.owner)
        channel = core.channels[provider.name]
        answer = await channel.read(operation.state.request(params.job_id), key)
        if not answer.ok:
            raise CallError(describe(provider, answer))
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
            await core.registry.store.create(job, [], identical_since=None)
            live = core.registry.add(job)
            await opened.poller.take_in(live, answer)
            return live

        return await core.detached(take)

    def poll_after(self, live: Live) -> int | None:
        """Return the whole seconds after which there can be news; None once the job ended."""
        if self._opened is None or live.job.ended:
            return None
        return self._opened.poller.next_look(live.job)

    async def store(self) -> Store:
        """Return the store, for tools that list."""
        return (await self._get()).core.registry.store

    def latest(self, job: Job) -> Job:
        """Return a job as this process knows it, which may be newer than its row."""
        live = self._opened.core.registry.known(job.job_id) if self._opened is not None else None
        return live.job if live is not None and live.job.version >= job.version else job

    # --- calling ---

    async def call(
        self, provider: Provider, call: Call, params: Params, person: Person
    ) -> JsonObject:
        """Make a call that answers at once; the result is shaped as the operation declares.

        Raises
        ------
        CallError: it was refused, or its fate is unknown.
        """
        opened = await self._get()
        core = opened.core
        channel = core.channels[provider.name]
        key = self.vault.key(provider, call.credential, owner=self.owner)
        live: Live | None = None
        sent = params
        if "{job_id}" in call.path:
            given: str = getattr(params, "job_id", "")
            live = await self.find(provider, given)
            if live is not None and live.job.status == "queued" and call.withdraws:
                return await core.detached(lambda: self._withdraw(opened, live))
            sent = params.model_copy(update={"job_id": _provider_id(provider, given, live)})
        if call.asks is not None and call.name not in self.settings.approval.never_ask:
            question = call.asks.format(**params.model_dump(exclude_none=True))
            binding = canonical(canonical_arguments(params))
            await person.approve(call.name, question, binding)
        request = build_request(call, sent, channel.settings)
        if call.repeatable:
            answer = await channel.read(request, key)
            if not answer.ok and answer.status not in call.accepts:
                raise CallError(describe(provider, answer))
        else:
            answer = await core.detached(
                lambda: self._change(opened, provider, call, request, key, live)
            )
        try:
            result = call.result(answer, params) if call.result is not None else plain(answer)
            if live is not None:
                await self._take_in(opened, live, call, answer)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise CallError(describe(provider, replace(answer, status=0))) from None
        return result

    async def _change(
        self,
        opened: _Opened,
        provider: Provider,
        call: Call,
        request: Request,
        key: Key,
        live: Live | None,
    ) -> Answer:
        """Send a request that changes something: an attempt of its own in the journal, once."""
        core = opened.core
        channel, store = core.channels[provider.name], core.registry.store
        attempt = Attempt(
            attempt_id=core.new_id(),
            owner=self.owner,
            operation=call.name,
            request_hash=digest(self.owner, call.name, request.path, canonical(request.body)),
            evidence={"job_id": live.job.job_id} if live is not None else None,
            created_at=self.clock(),
        )
        lane = channel.lane(key.fingerprint)
        try:
            await store.write(None, [attempt])
            turn = await lane.turn("call")
            try:
                attempt = attempt.next(state="sent", sent_at=self.clock())
                await store.write(None, [attempt])
                answer = await channel.change(request, key)
            finally:
                turn.done()
        except JournalError as error:
            raise CallError(error.failure) from None
        outcome = judge(provider, answer, needs_id=False, also_accepts=call.accepts)
        now = self.clock()
        if isinstance(outcome, Accepted):
            await store.write(None, [attempt.next(state="accepted", answered_at=now)])
            return outcome.answer
        if isinstance(outcome, Unknown):
            fate = attempt.next(state="unknown", answered_at=now, evidence=outcome.evidence)
            await store.write(None, [fate])
            raise CallError(
                with_next_step(outcome.failure, "look at the present state before trying again")
            )
        await store.write(None, [attempt.next(state="refused", answered_at=now)])
        raise CallError(outcome.failure)

    async def _withdraw(self, opened: _Opened, live: Live) -> JsonObject:
        """Cancel a job that still waits here: its request never left."""
        core, now = opened.core, self.clock()
        attempts = [a for a in (live.attempt, *(live.items or {}).values()) if a is not None]

        def change(job: Job) -> Job:
            if job.status != "queued":
                raise call_error(
                    "conflict", f"{job.job_id} has just left", "check it, then cancel it again"
                )
            return job.next(status="cancelled", updated_at=now, ended_at=now, queued_for=None)

        closed = [a.next(state="refused", answered_at=now) for a in attempts]
        await core.registry.update(live, change, closed)
        live.attempt = None
        core.schedule.cancel(("start", live.job.job_id))
        return {"job_id": live.job.job_id, "status": "cancelled"}

    async def _take_in(self, opened: _Opened, live: Live, call: Call, answer: Answer) -> None:
        """Take in what the answer to a call says of the job that it named."""
        if call.state is not None:
            await opened.core.detached(lambda: opened.poller.ingest(live, call.state(answer)))  # pyright: ignore[reportOptionalCall] -- checked above
        if call.drops_outputs:
            gone = tuple(replace(o, url=None, expires_at=None) for o in live.job.outputs)
            await opened.core.record(live, lambda job: job.next(outputs=gone), ())


@dataclass(frozen=True, slots=True)
class _Opened:
    """The parts that exist once the journal is open."""

    core: Core
    poller: Poller
    collector: Collector
    items: ItemSender
    submitter: Submitter
    lease: Lease | None


@asynccontextmanager
async def running(
    providers: Iterable[Provider], settings: Settings, world: World
) -> AsyncGenerator[Machine]:
    """Run a machine; on leaving, open attempts finish up to their deadline."""
    machine = Machine(providers, settings, world)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(machine.run, tasks)
        try:
            yield machine
        finally:
            await machine.close()
            tasks.cancel_scope.cancel()


def _has_left_or_waits(live: Live) -> bool:
    job = live.job
    return job.status not in {"queued", "submitting"} or job.queued_for is not None


def _provider_id(provider: Provider, given: str, live: Live | None) -> str:
    if live is None:
        if given.startswith(f"{provider.name}_"):
            raise call_error(
                "not_found", f"there is no job {given}", "list_jobs shows the jobs known here"
            )
        return given
    if live.job.provider_job_id is None:
        raise call_error(
            "conflict",
            f"{given} is {live.job.status}: {provider.title} has given it no id",
            "check the job first",
        )
    return live.job.provider_job_id


def plain(answer: Answer) -> JsonObject:
    """Return the provider's object as it is; anything else under ``result``."""
    return answer.object if isinstance(answer.body, dict) else {"result": answer.body}
