"""What acts for one owner, on the runtime that all owners share."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from darkroom.core.errors import JournalError
from darkroom.core.log import log
from darkroom.engine.batches.service import Batches
from darkroom.engine.calls import Caller
from darkroom.engine.policy_gate import PolicyGate
from darkroom.engine.recovery import recover_from
from darkroom.engine.starts import Starter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from darkroom.engine.runtime import Runtime
    from darkroom.jobs.model import Job
    from darkroom.jobs.registry import LiveJob
    from darkroom.jobs.store import Query
    from darkroom.providers.provider import Policy, Provider


class Owned:
    """The parts of one owner: they start, call and read for nobody else.

    A job of another owner is to them a job that does not exist.
    """

    def __init__(
        self,
        runtime: Runtime,
        owner: str,
        providers: Mapping[str, Provider],
        guard: tuple[Provider, Policy] | None,
    ) -> None:
        self.runtime = runtime
        self._owner = owner
        self.caller = Caller(runtime, owner, self.find)
        gate = PolicyGate(runtime, self.caller, *guard) if guard is not None else None
        self.starter = Starter(runtime, owner, gate)
        self.batches = Batches(runtime, owner, providers, self.starter)

    async def job(self, job_id: str) -> LiveJob | None:
        """Return one of the owner's jobs by our id; a dead process's job is taken over first."""
        registry = self.runtime.context.registry
        live = await registry.get(self._owner, job_id)
        if live is None or live.job.ended or live.job.holder == registry.holder:
            return live
        if await recover_from(self.runtime, [live.job.holder]):
            return await registry.get(self._owner, job_id)
        return live

    async def find(self, provider: Provider, job_id: str) -> LiveJob | None:
        """Return the owner's job of this provider by our id or the provider's."""
        live = await self.job(job_id)
        if live is None:
            store = self.runtime.context.registry.store
            row = await store.find(self._owner, provider.name, job_id)
            live = await self.job(row.job_id) if row is not None else None
        return live if live is not None and live.job.provider == provider.name else None

    async def jobs(self, query: Query) -> list[Job]:
        """Return the owner's jobs that match, newest first, whichever owner the query names.

        Those of dead processes are taken over first.
        """
        registry = self.runtime.context.registry
        holders = await registry.store.holders()
        try:
            await recover_from(self.runtime, holders)
        except JournalError as error:  # the jobs that are stored can still be read
            log.error("%s", error)
        rows = await registry.store.list(replace(query, owner=self._owner))
        return [registry.latest(job) for job in rows]


class Owners:
    """The parts of every owner. They are made when an owner is first met, and kept."""

    def __init__(
        self,
        runtime: Runtime,
        providers: Mapping[str, Provider],
        guard: tuple[Provider, Policy] | None,
    ) -> None:
        self.runtime = runtime
        self._providers = providers
        self._guard = guard
        self._owned: dict[str, Owned] = {}
        runtime.tracker.on_change.append(self._changed)
        runtime.go_on.append(self.take_up)

    def of(self, owner: str) -> Owned:
        """Return the parts of an owner."""
        owned = self._owned.get(owner)
        if owned is None:
            owned = Owned(self.runtime, owner, self._providers, self._guard)
            self._owned[owner] = owned
        return owned

    async def take_up(self) -> None:
        """Continue the batches of dead processes, whoever owns them."""
        for owner in await self.runtime.context.registry.store.owners():
            await self.of(owner).batches.take_up()

    def _changed(self, job: Job) -> None:
        self.of(job.owner).batches.changed(job)
