"""The parts of the machine that exist once the journal is open, and how they are put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from darkroom.batches.tracker import Tracker
from darkroom.channel import Channel
from darkroom.core import Core
from darkroom.http import Outlet
from darkroom.jobs.inputs import Inputs
from darkroom.jobs.items import ItemSender
from darkroom.jobs.liveness import Lease, is_dead
from darkroom.jobs.poller import Poller
from darkroom.jobs.questions import Questions
from darkroom.jobs.registry import Registry
from darkroom.jobs.schedule import Heap
from darkroom.jobs.submission import Submitter
from darkroom.operation import Job as JobOperation
from darkroom.results.collect import Collector
from darkroom.results.shelf import Shelf
from darkroom.shared_budget import SharedBudget
from darkroom.spending import Tariff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from darkroom.credentials import Vault
    from darkroom.fetch import Fetcher
    from darkroom.jobs.model import Attempt
    from darkroom.jobs.registry import Live
    from darkroom.jobs.store import Store
    from darkroom.operation import Admitted, Limits, Provider
    from darkroom.pacing import Budget
    from darkroom.settings import Settings
    from darkroom.world import Run, World

DRAIN_SECONDS = 10.0
"""How long open attempts have to finish when the machine stops."""


@dataclass(frozen=True, slots=True)
class Works:
    """Everything that moves jobs."""

    core: Core
    poller: Poller
    collector: Collector
    shelf: Shelf
    inputs: Inputs
    items: ItemSender
    submitter: Submitter
    questions: Questions
    tracker: Tracker
    lease: Lease | None
    run: Run
    folder: Path
    recovering: anyio.Lock = field(default_factory=anyio.Lock)
    go_on: list[Callable[[], Awaitable[None]]] = field(
        default_factory=list["Callable[[], Awaitable[None]]"]
    )
    """Called when batches of a dead process were taken over."""

    def dead(self, holder: str) -> bool:
        """Tell whether the process behind a holder is gone; without a journal there is only us."""
        return self.lease is None or is_dead(self.core.settings.state_dir, holder)

    def queue(self, live: Live, attempts: Sequence[Attempt]) -> None:
        """Begin a job whose row and attempts were written just now; one that asks waits for a yes."""
        live.attempt = next((a for a in attempts if a.item is None), None)
        live.items = {a.item: a for a in attempts if a.item is not None} or None
        if live.job.asks:
            self.questions.follow(live)
        else:
            self.submitter.enqueue(live)

    async def drain(self) -> None:
        """Start nothing new, and let open attempts finish, up to their deadline."""
        core = self.core
        core.closing = True
        with anyio.move_on_after(DRAIN_SECONDS, shield=True):
            while core.open_attempts:
                await core.idle.wait()
        for scope in core.open_attempts:
            scope.cancel()

    async def close(self) -> None:
        """Close connections and journal; the lock goes last."""
        with anyio.CancelScope(shield=True):
            for live in tuple(self.core.registry):
                await self.core.save(live)
            for channel in self.core.channels.values():
                await channel.outlet.aclose()
            await self.collector.aclose()
            await self.core.registry.store.close()
            if self.lease is not None:
                self.lease.release()


async def open_works(
    providers: Mapping[str, Provider],
    settings: Settings,
    world: World,
    vault: Vault,
    admitted: Admitted,
    tasks: TaskGroup,
) -> Works:
    """Open the journal and build the parts around it.

    Raises
    ------
    ConfigurationError, JournalError: the journal cannot be used.
    """
    run: Run = world.run or anyio.to_thread.run_sync
    store, lease, holder = await _open_store(settings, world, run)
    tariff = Tariff(settings, providers, holder)
    registry = Registry(store, holder, tariff)
    schedule = Heap()
    channels = {
        name: Channel(
            provider,
            settings.provider(name),
            Outlet(vault.base_url(provider), clock=world.clock, transport=world.transport),
            vault,
            schedule,
            world.chance,
            sandbox=world.sandbox is not None,
            budget=_shared(settings, name, world) if lease is not None else None,
        )
        for name, provider in providers.items()
    }
    core = Core(
        settings=settings,
        vault=vault,
        clock=world.clock,
        chance=world.chance,
        registry=registry,
        schedule=schedule,
        tariff=tariff,
        channels=channels,
        operations={
            operation.name: operation
            for provider in providers.values()
            for operation in provider.operations
            if isinstance(operation, JobOperation)
        },
        tasks=tasks,
        admitted=admitted,
        new_id=world.new_id,
        time_scale=world.time_scale,
    )

    def open_fetcher() -> Fetcher:
        from darkroom.fetch import Fetcher  # noqa: PLC0415 -- needed with the first result

        return Fetcher(admitted=admitted.origins, sandbox=world.sandbox, offload=run)

    def dead(other: str) -> bool:
        return lease is None or is_dead(settings.state_dir, other)

    folder = settings.results_folder
    collector = Collector(core, open_fetcher, folder, run, dead)
    shelf = Shelf(core, collector, folder, run)
    poller = Poller(core, collector)
    inputs = Inputs(core, collector)
    items = ItemSender(core, poller, inputs)
    submitter = Submitter(core, poller, items, inputs)
    registry.watchers.append(lambda job: inputs.ended(job.job_id) if job.ended else None)
    return Works(
        core,
        poller,
        collector,
        shelf,
        inputs,
        items,
        submitter,
        Questions(core),
        Tracker(registry),
        lease,
        run,
        folder,
    )


def _shared(settings: Settings, provider: str, world: World) -> Callable[[str, Limits], Budget]:
    """Return what makes the budgets that all processes with this journal share."""
    folder = settings.state_dir / "pacing"
    return lambda fingerprint, limits: SharedBudget(
        folder / f"{provider}-{fingerprint}.lane", limits, world.monotonic
    )


async def _open_store(
    settings: Settings, world: World, run: Run
) -> tuple[Store, Lease | None, str]:
    holder = world.new_id()
    if world.open_store is not None:
        return await world.open_store(settings), None, holder
    if settings.jobs.store == "memory":
        from darkroom.jobs.memory import MemoryStore  # noqa: PLC0415 -- one of two is needed

        return MemoryStore(holder=holder, began=world.clock()), None, holder
    from darkroom.jobs.sqlite import SqliteStore  # noqa: PLC0415 -- one of two is needed

    lease = await run(lambda: Lease.take(settings.state_dir))
    try:
        path = settings.state_dir / "journal.sqlite"
        store = await SqliteStore.open(path, run=world.run, holder=lease.holder)
    except BaseException:
        lease.release()
        raise
    return store, lease, lease.holder
